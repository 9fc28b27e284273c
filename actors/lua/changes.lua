-- Have a tenant's changes kept in this partition from now on, for a while; say how far they reach.
-- KEYS 1 changes   ARGV 1 seconds to keep them when nobody asks any more
-- Returns the number before the oldest event kept, and the newest. Numbering begins at the milliseconds of the clock:
-- it grows by one an event, so a later life of the stream begins above an earlier one, whose cursors are then too old.
-- Asking again writes nothing until half of the time is over.
if redis.call('EXISTS', KEYS[1]) == 0 then
  local time = redis.call('TIME')
  redis.call('XADD', KEYS[1], string.format('%.0f-0', time[1] * 1000 + math.floor(time[2] / 1000)), 'n', 0)
end
if redis.call('TTL', KEYS[1]) < ARGV[1] / 2 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
local function number(entry) return tonumber(string.match(entry[1], '%d+')) end
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
return {number(oldest) - tonumber(oldest[2][#oldest[2]]), number(newest)}
