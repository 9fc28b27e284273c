-- Set a message aside that cannot be applied, so that the partition goes on. The newest 1,000 are kept.
-- KEYS  1 epoch  2 mailbox  3 dead letters
-- ARGV  1 epoch of this owner  2 entry  3 job  4 mid  5 body  6 why  7 reply channel, or ''  8 outcome
-- Returns OK | FENCED | DUPLICATE
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
if redis.call('XDEL', KEYS[2], ARGV[2]) == 0 then return 'DUPLICATE' end
redis.call('XADD', KEYS[3], 'MAXLEN', 1000, '*', 'job', ARGV[3], 'mid', ARGV[4], 'body', ARGV[5], 'why', ARGV[6])
if ARGV[7] ~= '' then redis.call('PUBLISH', ARGV[7], ARGV[4] .. ' ' .. ARGV[8]) end
return 'OK'
