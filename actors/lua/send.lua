-- Put a message into a mailbox, unless it is at its bound.
-- KEYS  1 mailbox  2 receipt
-- ARGV  1 bound  2 job  3 mid  4 body  5 reply channel, or ''  6 receipt to keep, or ''
-- Returns the entry's id, or 'FULL'.
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return 'FULL'
end
if ARGV[6] ~= '' then
  redis.call('SET', KEYS[2], ARGV[6], 'EX', 86400, 'NX')
end
return redis.call('XADD', KEYS[1], '*', 'job', ARGV[2], 'mid', ARGV[3], 'body', ARGV[4], 'reply', ARGV[5])
