-- Set how many bytes some holders hold, all of them or none; the tenant's total is the sum of what its holders hold.
-- KEYS  1 total  2 held (hash: holder -> bytes)  3 until (zset: holder -> when it is let go, ms)  4 the job's entries
-- ARGV  1 limit in bytes  2 tenant  3 how many may hold at once
--       then for each holder, named once: '2' (held) or '4' (of the job), its name, bytes, ms to hold it for, or ''
-- Returns {1, total, bytes before…}, or {0, total} when it would pass the limit, {-1, total} when too many hold.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local total = tonumber(redis.call('GET', KEYS[1]) or '0')

for _, holder in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', string.format('%.0f', now), 'LIMIT', 0, 100)) do
  total = total - tonumber(redis.call('HGET', KEYS[2], holder) or '0')
  redis.call('HDEL', KEYS[2], holder)
  redis.call('ZREM', KEYS[3], holder)
end

local answer, more, holders = {1, 0}, 0, redis.call('HLEN', KEYS[2])
for i = 4, #ARGV, 4 do
  local before = redis.call('HGET', KEYS[tonumber(ARGV[i])], ARGV[i + 1])
  more = more + tonumber(ARGV[i + 2]) - tonumber(before or '0')
  if ARGV[i] == '2' and not before and ARGV[i + 2] ~= '0' then holders = holders + 1 end
  answer[#answer + 1] = tonumber(before or '0')
end
local refused = more > 0 and ((total + more > tonumber(ARGV[1]) and 0)
  or (holders > tonumber(ARGV[3]) and -1))
if not refused then
  total = total + more
  for i = 4, #ARGV, 4 do
    local key, holder, bytes, ms = KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
    if bytes == '0' then redis.call('HDEL', key, holder) else redis.call('HSET', key, holder, bytes) end
    if ARGV[i] == '2' then
      if bytes == '0' or ms == '' then
        redis.call('ZREM', KEYS[3], holder)
      else
        redis.call('ZADD', KEYS[3], string.format('%.0f', now + tonumber(ms)), holder)
      end
    end
  end
end

if total == 0 then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], string.format('%.0f', total)) end
if KEYS[4] then
  redis.call('HSET', KEYS[4], 'tenant', ARGV[2])
  if redis.call('HLEN', KEYS[4]) == 1 then redis.call('DEL', KEYS[4]) end
end
if refused then return {refused, total} end
answer[2] = total
return answer
