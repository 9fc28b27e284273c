-- Take, renew or give back a partition. The epoch, not the lease's time, is what fences an old owner off.
-- KEYS  1 lease  2 epoch
-- ARGV  1 'take' | 'renew' | 'release'  2 host  3 lease in ms  4 epoch held (renew, release)
-- Returns the epoch held after it, or 0. A new one lies above all before it and at the clock's milliseconds: even after a
-- disk has lost what it had acknowledged, no epoch is given out twice.
local holder = redis.call('GET', KEYS[1])
if ARGV[1] == 'take' then
  if holder and holder ~= ARGV[2] then return 0 end
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
  local time = redis.call('TIME')
  local above = tonumber(redis.call('GET', KEYS[2]) or '0') + 1
  local epoch = string.format('%.0f', math.max(above, time[1] * 1000 + math.floor(time[2] / 1000)))
  redis.call('SET', KEYS[2], epoch)
  return tonumber(epoch)
end
if redis.call('GET', KEYS[2]) ~= ARGV[4] or (holder and holder ~= ARGV[2]) then return 0 end
if ARGV[1] == 'renew' then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
return tonumber(ARGV[4])
