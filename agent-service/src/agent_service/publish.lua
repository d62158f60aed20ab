-- Adds a batch of events to the event stream: all of it, and once.
-- KEYS: the stream, the publisher's key. ARGV: the batch's number, how long to remember in seconds, then of each event
-- its task, its attempt, the end that it tells of (empty where it tells of none), its value, and what tells of it once
-- more at the top of its tree (empty where nothing does), which is there where the event is.
-- Returns how many were left out: those of an attempt that another has taken over, and ends that were told already.

-- The answer to this batch was lost, and it comes again.
if redis.call('GET', KEYS[2]) == ARGV[1] then
    return 0
end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])

local left_out = 0
for i = 3, #ARGV, 5 do
    local task, attempt, ended, value = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
    local fence = 'hearth.fence.' .. task
    local known = redis.call('HMGET', fence, 'attempt', 'ended')
    if known[1] and tonumber(known[1]) > attempt or ended ~= '' and known[2] == ended then
        left_out = left_out + 1
    else
        if not known[1] or tonumber(known[1]) < attempt then
            redis.call('HSET', fence, 'attempt', attempt)
            redis.call('EXPIRE', fence, ARGV[2])
        end
        if ended ~= '' then
            redis.call('HSET', fence, 'ended', ended)
            redis.call('EXPIRE', fence, ARGV[2])
        end
        redis.call('XADD', KEYS[1], '*', 'event', value)
        if ARGV[i + 4] ~= '' then
            redis.call('XADD', KEYS[1], '*', 'event', ARGV[i + 4])
        end
    end
end
return left_out
