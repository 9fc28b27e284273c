-- Turn the timers that are due into messages, each once, which say how late they are (ms).
-- KEYS  1 epoch  2 timers  3 tokens  4 mailbox
-- ARGV  1 epoch of this owner  2 how many at most
-- Returns how many were sent, or 'FENCED'.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'FENCED' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now), 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #due, 2 do
  local member, late = due[i], now - tonumber(due[i + 1])
  local token = redis.call('HGET', KEYS[3], member) or '0'
  local job, timer = string.match(member, '^([^|]*)|(.*)$')
  local body = string.format(
    '{"type":"Fired","timer":%s,"token":%d,"late":%.0f}', cjson.encode(timer), tonumber(token), late)
  redis.call('ZREM', KEYS[2], member)
  redis.call('HDEL', KEYS[3], member)
  redis.call('XADD', KEYS[4], '*', 'job', job, 'mid', '', 'body', body, 'reply', '')
end
return #due / 2
