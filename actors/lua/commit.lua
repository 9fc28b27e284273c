-- The one way a job changes: everything that follows from one message, or nothing.
-- KEYS  1 epoch  2 mailbox  3 log  4 snapshot  5 timers  6 tokens  7 outbox  8 dispatched  9 seen  10 receipt  11 index
--      12 changes of the tenant: there only while somebody watches the tenant as a whole (see actors/feeds/tenant_log.py)
--      13 open: the tenant's jobs that have not ended, in the order in which they were accepted
--      14 secret of the job's webhooks: with a submission only
-- ARGV  1 epoch of this owner        2 mailbox entry          3 seq the job must be at
--       4 job                        5 mid                    6 outcome (JSON)      7 reply channel, or ''
--       8 feed channel               9 seconds to know the mid of a command, or ''     10 'job|timer' that fired, or ''
--      11 created at (ms), or ''    12 '1': drop the receipt  13 tombstone seconds, or ''
--      14 'open' | 'close' | '': whether the job has begun, or ended, by this
--      then lists, each led by its length: events (type, json)…, fields (name, json)…, fields to delete…,
--      timers to set ('job|timer', token, delay in ms)…, timers to clear…, outbox (id, effect)…, dispatches to withdraw…
-- Returns OK | FENCED (not the owner any more) | CONFLICT (the job is elsewhere) | DUPLICATE (entry applied before)
--       | REPEAT (command applied before, answered again) | REARMED (the timer was set again since it fired)
--       | CORRUPT (the log does not end where the snapshot stands)
local epoch, entry, seq, job = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('GET', KEYS[1]) ~= epoch then return 'FENCED' end
if #redis.call('XRANGE', KEYS[2], entry, entry) == 0 then return 'DUPLICATE' end
if (redis.call('HGET', KEYS[4], 'seq') or '0') ~= seq then return 'CONFLICT' end

if ARGV[15] ~= '0' then  -- a script that fails halfway is not undone: what may fail is asked before anything is written
  local top = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)[1]
  if (top and top[1] or '0-0') ~= seq .. '-0' then return 'CORRUPT' end
end

local function answer(outcome)
  if ARGV[7] ~= '' then redis.call('PUBLISH', ARGV[7], ARGV[5] .. ' ' .. outcome) end
end

redis.call('XDEL', KEYS[2], entry)
if ARGV[9] ~= '' then
  local before = redis.call('GET', KEYS[9])
  if before then
    answer(before)
    return 'REPEAT'
  end
  redis.call('SET', KEYS[9], ARGV[6], 'EX', ARGV[9])
end
if ARGV[10] ~= '' and redis.call('ZSCORE', KEYS[5], ARGV[10]) then return 'REARMED' end

local at = 15
local function list(width, each)
  local count = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, count do
    each(at)
    at = at + width
  end
  return count
end

if ARGV[13] ~= '' then
  redis.call('DEL', KEYS[3], KEYS[4])
  if redis.call('EXISTS', KEYS[10]) == 0 then redis.call('ZREM', KEYS[11], job) end  -- else it was submitted again
end
local last = tonumber(seq)
local events = list(2, function(i)
  last = last + 1
  redis.call('XADD', KEYS[3], string.format('%d-0', last), 't', ARGV[i], 'e', ARGV[i + 1], 'o', epoch)
end)
list(2, function(i) redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1]) end)
list(1, function(i) redis.call('HDEL', KEYS[4], ARGV[i]) end)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
list(3, function(i)
  redis.call('ZADD', KEYS[5], string.format('%.0f', now + tonumber(ARGV[i + 2])), ARGV[i])
  redis.call('HSET', KEYS[6], ARGV[i], ARGV[i + 1])
end)
list(1, function(i)
  if redis.call('ZREM', KEYS[5], ARGV[i]) == 1 then redis.call('HDEL', KEYS[6], ARGV[i]) end
end)
list(2, function(i) redis.call('HSET', KEYS[7], ARGV[i], ARGV[i + 1]) end)
list(1, function(i)
  redis.call('HDEL', KEYS[7], ARGV[i])
  redis.call('HDEL', KEYS[8], ARGV[i])
end)
if ARGV[14] == 'open' then redis.call('ZADD', KEYS[13], string.format('%.0f', time[1] * 1000000 + time[2]), job) end
if ARGV[14] == 'close' then redis.call('ZREM', KEYS[13], job) end
if ARGV[11] ~= '' then redis.call('ZADD', KEYS[11], 'NX', ARGV[11], job) end  -- if an older version sent it
if ARGV[12] == '1' then
  redis.call('DEL', KEYS[10])
  if redis.call('EXISTS', KEYS[3]) == 0 then  -- refused, or forgotten before: there is no job
    redis.call('ZREM', KEYS[11], job)
    redis.call('EXPIRE', KEYS[14], 86400)
  end
end
if ARGV[13] ~= '' then redis.call('EXPIRE', KEYS[4], ARGV[13]) end
if events > 0 or ARGV[13] ~= '' then redis.call('PUBLISH', ARGV[8], '') end
local newest = events > 0 and redis.call('XREVRANGE', KEYS[12], '+', '-', 'COUNT', 1)[1]
if newest then  -- where the events are, not the events; an entry's id is the number of its last event
  local id = string.format('%.0f-0', tonumber(string.match(newest[1], '%d+')) + events)
  redis.call('XADD', KEYS[12], 'MAXLEN', '~', '4096', id, 'j', job, 's', last, 'n', events)
  redis.call('PUBLISH', KEYS[12], '')
end
answer(ARGV[6])
return 'OK'
