-- An effect is performed: take it out of the outbox. A dispatch is kept aside until a worker claims it, with the
-- generation of the broker that has it, unless the claim was quicker and has withdrawn it already.
-- KEYS  1 outbox  2 dispatched
-- ARGV  1 effect id  2 generation and effect (a dispatch), or ''
if redis.call('HDEL', KEYS[1], ARGV[1]) == 1 and ARGV[2] ~= '' then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
elseif ARGV[2] ~= '' and redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then
  redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
end
return 1
