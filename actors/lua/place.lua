-- Stand in line with those that are about to open one more job of a tenant.
-- KEYS  1 line (zset: name -> when it is let go, us, in the order in which they came)
-- ARGV  1 name  2 seconds after which it is let go by itself
-- Returns how many came before and are still there.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now))
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2]
local till = math.max(now + ARGV[2] * 1000000, tonumber(newest or '0') + 1)  -- no two at the same: their order is kept
redis.call('ZADD', KEYS[1], string.format('%.0f', till), ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2] + 1)
return redis.call('ZCARD', KEYS[1]) - 1
