-- Take, renew or give back a partition. The epoch, not the lease's time, is what fences an old owner off.
-- KEYS  1 lease  2 epoch
-- ARGV  1 'take' | 'renew' | 'release'  2 host  3 lease in ms  4 epoch held (renew, release)
-- Returns the epoch held after it, or 0.
local holder = redis.call('GET', KEYS[1])
if ARGV[1] == 'take' then
  if holder and holder ~= ARGV[2] then return 0 end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  return redis.call('INCR', KEYS[2])
end
if redis.call('GET', KEYS[2]) ~= ARGV[4] or (holder and holder ~= ARGV[2]) then return 0 end
if ARGV[1] == 'renew' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
return tonumber(ARGV[4])
