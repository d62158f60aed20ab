-- Puts a dead letter back at the end with a new reason, since an entry of a stream cannot be changed.
-- KEYS: the dead letters. ARGV: its id, then the names and values of the new entry.
-- Returns its new id; nothing, and nothing is done, where the letter is not there any more.
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then
    return false
end
return redis.call('XADD', KEYS[1], '*', unpack(ARGV, 2))
