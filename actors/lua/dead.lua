-- Set a message aside that cannot be applied, so that the partition goes on. The newest 1,000 are kept. A submission is
-- decided by that: it is no job that waits any more, and what was laid down for it expires.
-- KEYS  1 epoch  2 mailbox  3 dead letters  4 receipt  5 snapshot  6 secret of the job's webhooks  7 index
-- ARGV  1 epoch of this owner  2 entry  3 job  4 mid  5 body  6 why  7 reply channel, or ''  8 outcome
-- Returns OK | FENCED | DUPLICATE
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
local found = redis.call('XRANGE', KEYS[2], ARGV[2], ARGV[2])[1]
if not found then return 'DUPLICATE' end
redis.call('XDEL', KEYS[2], ARGV[2])
local receipt, fields = redis.call('GET', KEYS[4]), found[2]
for i = 1, #fields, 2 do
  if fields[i] == 'body' and fields[i + 1] == receipt then  -- this very submission, whatever version wrote it
    redis.call('DEL', KEYS[4])
    if redis.call('EXISTS', KEYS[5]) == 0 then
      redis.call('EXPIRE', KEYS[6], 86400)
      redis.call('ZREM', KEYS[7], ARGV[3])
    end
  end
end
redis.call('XADD', KEYS[3], 'MAXLEN', 1000, '*', 'job', ARGV[3], 'mid', ARGV[4], 'body', ARGV[5], 'why', ARGV[6])
if ARGV[7] ~= '' then redis.call('PUBLISH', ARGV[7], ARGV[4] .. ' ' .. ARGV[8]) end
return 'OK'
