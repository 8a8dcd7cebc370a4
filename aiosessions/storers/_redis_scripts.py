"""What a Redis server does by itself, in one step: Lua scripts, and the layout of what they read.

A record is one string: `indexed_until`, which says how far expires_at may move before the owner's index must be written
again, as 8 bytes, then the packed record. `touch` patches its head in place.

    offset  0  indexed_until
            8  format, 1 byte
            9  version, 8 bytes, compared as bytes
           17  seen_at
           25  expires_at
           41  size of the owner, -1: none
           49  owner, meta, value

Times are doubles, most significant byte first, as Lua's `struct` reads them; infinite: never.

An owner's index is a sorted set of session keys. The whole part of a score is the second, on the server's clock, at
which the entry may be forgotten; its fraction, in units of 2^-20, is the second at which it was last written, modulo
2^20 (twelve days): enough to know a young entry from an old one. 2^32 stands for "never". What is due leaves whenever
an entry is written, and the set itself expires with its last entry, so that users who never come back cost nothing.

No script touches a key that is not in KEYS, and none needs more than Redis 6.2.

A server at its `maxmemory` that evicts nothing refuses what takes memory, but only as a script's first write. So what
adds comes before what removes, in a call and among the calls of a trip, and a touch, which takes none, is not refused.
"""

import hashlib
import math
import struct
from typing import NamedTuple

__all__ = ["CALLS", "HEAL", "INDEX", "TIME", "TIMES", "Call", "Script", "a_call"]

TIMES = struct.Struct(">dd")
TIME = struct.Struct(">d")
_HEAD = struct.Struct(">cBB8sddd16s8s")


class Script(NamedTuple):
    """A script and what the server calls it."""

    text: bytes
    sha: str


class Call(NamedTuple):
    """A script, the keys that it touches, and its arguments: several calls of CALLS make one, in one step."""

    script: Script
    keys: tuple[bytes, ...]
    arguments: tuple[bytes | int, ...]


def _script(*parts: str) -> Script:
    text = "\n".join(parts).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())  # what EVALSHA is defined by


_INDEX = """
local NEVER, MODULUS = 4294967296, 1048576
local function index(key, member, span)
  local second = tonumber(redis.call('TIME')[1])
  local due = math.min(second + span, NEVER - 1)
  if span == math.huge then due = NEVER end
  local before = redis.call('ZSCORE', key, member)
  if before then due = math.max(due, math.floor(tonumber(before))) end
  redis.call('ZADD', key, string.format('%.17g', due + second % MODULUS / MODULUS), member)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. second)
  local last = math.floor(tonumber(redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]))
  if last >= NEVER then redis.call('PERSIST', key)
  else redis.call('EXPIREAT', key, string.format('%.0f', last + 1)) end
end
"""

CALLS = _script(
    _INDEX,
    """
-- For each call: KEYS: record [, index]   ARGV: head, see a_call; member of the index; data
-- Answers each: what it says, or the error that it met.
local function time(data, place) return (struct.unpack('>d', data, place)) end
local function version(data) return string.sub(data, 10, 17) end
local function owner(data)
  local size = struct.unpack('>i4', data, 42)
  if size < 0 then return nil end
  return size
end
local function stored_owner(call)
  local size = owner(call.stored)
  return size and (size == 0 and '' or redis.call('GETRANGE', call.key, 49, 48 + size))
end

-- Create, Replace, and replace If the owner's index names the record as long as the one that is there.
-- 1: it is stored; 0: refused; 2: the owner's index must be written first
local function write(call, live, data)
  if live and version(call.stored) == version(data) then
    -- WAIT waits for what this connection wrote, so it writes.
    redis.call('SETRANGE', call.key, 0, string.sub(call.stored, 1, 1))
    return 1
  end
  if call.kind == 'C' then
    if live then return 0 end
  elseif not live or version(call.stored) ~= call.version then
    return 0
  end

  if call.kind == 'I' then
    local size = owner(data)
    if stored_owner(call) ~= string.sub(data, 50, 49 + size) or time(data, 26) > time(call.stored, 1) then return 2 end
    data = string.sub(call.stored, 1, 8) .. string.sub(data, 9)
  end
  if call.index then index(call.index, call.member, call.span) end
  if call.ms == math.huge then redis.call('SET', call.key, data)
  elseif call.ms > 0 then redis.call('SET', call.key, data, 'PX', string.format('%.0f', call.ms))
  else redis.call('DEL', call.key) end
  return 1
end

-- Touch; data: '=' and the owner whose index names the record until then, or ''.
-- 1: touched; 0: absent; '=' and the record's owner: its index must be written first
local function touch(call, live, named)
  if not live then return 0 end

  local later = time(call.expires_at, 1) > time(call.stored, 26)
  local is_indexed = not later or not owner(call.stored) or time(call.expires_at, 1) <= time(call.stored, 1)
  if not is_indexed then
    local whose = '=' .. stored_owner(call)
    if whose ~= named then return whose end
  end

  -- First what takes no memory: then the rest is not refused either.
  local ms = redis.call('PTTL', call.key)
  if ms < 0 then ms = math.huge end
  if later then ms = math.max(ms, call.ms) end
  if ms == math.huge then redis.call('PERSIST', call.key)
  else redis.call('PEXPIRE', call.key, string.format('%.0f', math.max(ms, 1))) end
  if not is_indexed then
    if call.index then index(call.index, call.member, call.span) end
    redis.call('SETRANGE', call.key, 0, call.indexed_until)
  end
  if time(call.seen_at, 1) > time(call.stored, 18) then redis.call('SETRANGE', call.key, 17, call.seen_at) end
  if later then redis.call('SETRANGE', call.key, 25, call.expires_at) end
  return 1
end

-- Delete, or delete that Version; data: '=' and the owner that it must have, or ''.
-- 1: deleted; 0: absent, or not that one; '=' and its owner: deleted, and his index may forget it
local function delete(call, live, whose)
  if call.stored == '' then
    if call.waits == 1 then -- deleted by a call whose answer got lost? WAIT waits for what this connection wrote
      redis.call('SET', call.key, '')
      redis.call('DEL', call.key)
    end
    return 0
  end
  if call.kind == 'V' and version(call.stored) ~= call.version then return 0 end
  local owner = stored_owner(call)
  if whose ~= '' and owner ~= string.sub(whose, 2) then return 0 end

  redis.call('DEL', call.key)
  if live and owner and whose == '' then return '=' .. owner end
  return live and 1 or 0
end

-- Forget an entry of the index: its record is gone. No answer worth reading.
local function forget(call)
  if call.stored == '' then redis.call('ZREM', call.index, call.member) end
  return 1
end

local DO = {C = write, R = write, I = write, T = touch, D = delete, V = delete, F = forget}
local answers, others, key = {}, {}, 1

local function answer(call)
  local done, said = pcall(function()
    call.stored = redis.call('GETRANGE', call.key, 0, 48)
    local live = call.stored ~= '' and time(call.stored, 26) > call.now
    return DO[call.kind](call, live, call.data)
  end)
  if not done and type(said) ~= 'table' then said = {err = tostring(said)} end
  answers[call.number] = said
end

for number = 1, #ARGV / 3 do
  local call = {number = number, key = KEYS[key], member = ARGV[3 * number - 1], data = ARGV[3 * number]}
  local keys
  call.kind, keys, call.waits, call.version, call.now, call.ms, call.span, call.seen_at, call.expires_at,
    call.indexed_until = struct.unpack('>c1BBc8dddc8c8c8', ARGV[3 * number - 2])
  if keys == 2 then call.index = KEYS[key + 1] end
  key = key + keys
  if DO[call.kind] == write then answer(call) else others[#others + 1] = call end
end
for _, call in ipairs(others) do answer(call) end
return answers
""",
)

INDEX = _script(
    _INDEX,
    """
-- KEYS: index   ARGV: member, span in seconds
index(KEYS[1], ARGV[1], (struct.unpack('>d', ARGV[2])))
return {1}
""",
)

HEAL = _script(
    """
-- KEYS: index   ARGV: seconds, members whose record was not found
-- Forgets those that were last written longer ago than so many seconds: a younger one may belong to a login that is
-- under way. (An age of nearly twelve days is a clock that was set back by up to an hour: young as well.)
local MODULUS = 1048576
local second = tonumber(redis.call('TIME')[1])
for place = 2, #ARGV do
  local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[place]) or '0')
  local age = (second - (score - math.floor(score)) * MODULUS) % MODULUS
  if age > tonumber(ARGV[1]) and age < MODULUS - 3600 then redis.call('ZREM', KEYS[1], ARGV[place]) end
end
return {1}
""",
)


def a_call(
    kind: bytes,
    keys: tuple[bytes, ...],
    now: float,
    *,
    waits: bool = False,
    version: bytes = b"",
    milliseconds: float = math.inf,
    span: float = math.inf,
    times: bytes = b"",
    indexed_until: bytes = b"",
    member: bytes = b"",
    data: bytes = b"",
) -> Call:
    """One of CALLS.

    Args:
        kind: Create, Replace, replace If indexed, Touch, Delete, delete a Version, Forget an index's entry.
        keys: the record's, and perhaps the index's.
        now: on the application's clock.
        waits: whether replicas are waited for.
        version: 8 bytes, which must be there.
        milliseconds: to live.
        span: seconds that the index is to name it.
        times: a touch's seen_at and expires_at.
        indexed_until: what a touch that writes the index leaves in the record.
        member: what the index is to name.
        data: what the kind needs besides.
    """
    head = _HEAD.pack(kind, len(keys), waits, version, now, milliseconds, span, times, indexed_until)
    return Call(CALLS, keys, (head, member, data))
