-- GCRA, the generic cell rate algorithm (ITU-T I.371): a bucket is one number, the moment at which all that was asked
-- for so far is paid off at the agreed rate. It may lie ahead of now by a burst at most.
-- KEYS  1 bucket
-- ARGV  1 us between two requests at the agreed rate  2 burst
-- Returns {1 or 0: whether this one may pass, how many more may at once, us until the burst is whole, us to wait}.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local each, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local paid = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0'))
paid = math.min(paid, now + each * burst)  -- the clock was set back, or the rate raised: nobody waits for longer
local ahead = paid + each - now
if ahead > each * burst then
  return {0, 0, math.floor(paid - now), math.ceil(ahead - each * burst)}
end
redis.call('SET', KEYS[1], string.format('%.0f', paid + each), 'PX', math.ceil(ahead / 1000))
return {1, math.floor(burst - ahead / each + 1e-9), math.floor(ahead), 0}
