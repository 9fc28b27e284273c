-- Put a message into a mailbox, unless it is at its bound.
-- KEYS  1 mailbox  2 receipt; with a receipt also  3 secret of the job's webhooks  4 index  5 snapshot
-- ARGV  1 bound  2 job  3 mid  4 body  5 reply channel, or ''  6 receipt to keep, or ''  7 the submission's secret, or ''
-- Returns the entry's id, or 'FULL'. A submission is among its tenant's jobs from here on, and what it needs does not
-- expire until it is decided, however long that takes: commit.lua and dead.lua see to its end. Of several that wait
-- under one id the first becomes the job, so it is the first one's secret that is kept.
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return 'FULL'
end
if ARGV[6] ~= '' then
  if redis.call('SET', KEYS[2], ARGV[6], 'NX') and ARGV[7] ~= '' and redis.call('EXISTS', KEYS[5]) == 0 then
    redis.call('SET', KEYS[3], ARGV[7])
  end
  local time = redis.call('TIME')
  redis.call('ZADD', KEYS[4], 'NX', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), ARGV[2])
end
return redis.call('XADD', KEYS[1], '*', 'job', ARGV[2], 'mid', ARGV[3], 'body', ARGV[4], 'reply', ARGV[5])
