-- Adds a batch of events to the event stream: all of it, and once.
-- KEYS: the stream, the publisher's key. ARGV: the batch's number, how long to remember in seconds, then of each event
-- its task, its attempt, the end or wait that it tells of (empty where it tells of none), 1 where that is an end, its
-- value, and the top of its tree with what tells of it once more there (both empty where nothing does), which is there
-- where the event is; but not after the end of the top, whose streams have ended.
-- Returns how many were left out: those of an attempt that another has taken over, and ends that were told already.

-- The answer to this batch was lost, and it comes again.
if redis.call('GET', KEYS[2]) == ARGV[1] then
    return 0
end
redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2])

local left_out = 0
for i = 3, #ARGV, 7 do
    local task, attempt, ended, is_end, value = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
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
        if is_end == '1' then
            redis.call('HSET', fence, 'over', attempt)
        end
        redis.call('XADD', KEYS[1], '*', 'event', value)
        if ARGV[i + 5] ~= '' then
            -- A top that was started again has a later attempt than the one in which it was over.
            local top = redis.call('HMGET', 'hearth.fence.' .. ARGV[i + 5], 'attempt', 'over')
            if not top[2] or top[1] and tonumber(top[2]) < tonumber(top[1]) then
                redis.call('XADD', KEYS[1], '*', 'event', ARGV[i + 6])
            end
        end
    end
end
return left_out
