// BullMQ's part: `node bullmq_flow.mjs work` runs stages; `… add` adds as many jobs as each line of its input says.
import { createInterface } from 'node:readline'
import { createRequire } from 'node:module'

const { FlowProducer, Worker } = createRequire(process.env.BENCH_NODE_MODULES + '/')('bullmq')
const connection = { path: process.env.BENCH_REDIS, maxRetriesPerRequest: null }
const queueName = 'stages'

async function nothing(job) {
  await job.updateProgress(50)
  await job.updateProgress(100)
}

// A parent runs when its child has: the last stage is the root.
function flow() {
  const [first, ...rest] = process.env.BENCH_STAGES.split(',').map((name) => ({ name, queueName, data: {} }))
  return rest.reduce((child, stage) => ({ ...stage, children: [child] }), first)
}

if (process.argv[2] === 'work') {
  const worker = new Worker(queueName, nothing, { connection, concurrency: 1 })
  process.on('SIGTERM', () => worker.close().then(() => process.exit(0)))
} else {
  const producer = new FlowProducer({ connection })
  for await (const line of createInterface({ input: process.stdin })) {
    for (let left = Number(line); left > 0; left -= 40) {
      await Promise.all(Array.from({ length: Math.min(40, left) }, () => producer.add(flow())))
    }
  }
  await producer.close()
}
