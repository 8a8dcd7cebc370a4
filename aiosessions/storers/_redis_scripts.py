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
"""

import hashlib
import struct
from typing import NamedTuple

__all__ = ["DELETE", "HEAL", "INDEX", "TIME", "TIMES", "TOUCH", "WRITE", "Script"]

TIMES = struct.Struct(">dd")
TIME = struct.Struct(">d")


class Script(NamedTuple):
    """A script and what the server calls it."""

    text: bytes
    sha: str


def _script(*parts: str) -> Script:
    text = "\n".join(parts).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest())  # what EVALSHA is defined by


_RECORD = """
local function time(data, place) return (struct.unpack('>d', data, place)) end
local function version(data) return string.sub(data, 10, 17) end
local function owner(data)
  local size = struct.unpack('>i4', data, 42)
  if size < 0 then return nil end
  return size
end

local head = redis.call('GETRANGE', KEYS[1], 0, 48)
local now = time(ARGV[1], 1)
local live = head ~= '' and time(head, 26) > now
local function stored_owner()
  local size = owner(head)
  return size and (size == 0 and '' or redis.call('GETRANGE', KEYS[1], 49, 48 + size))
end
"""

_INDEX = """
local NEVER, MODULUS = 4294967296, 1048576
local function index(key, member, span)
  local second = tonumber(redis.call('TIME')[1])
  local due = NEVER
  if span ~= '' then due = math.min(second + tonumber(span), NEVER - 1) end
  local before = redis.call('ZSCORE', key, member)
  if before then due = math.max(due, math.floor(tonumber(before))) end
  redis.call('ZREMRANGEBYSCORE', key, '-inf', '(' .. second)
  redis.call('ZADD', key, string.format('%.17g', due + second % MODULUS / MODULUS), member)
  local last = math.floor(tonumber(redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2]))
  if last >= NEVER then redis.call('PERSIST', key)
  else redis.call('EXPIREAT', key, string.format('%.0f', last + 1)) end
end
"""

WRITE = _script(
    _RECORD,
    _INDEX,
    """
-- KEYS: record [, index]   ARGV: now, version that must be there ('': none may be), ms to live ('': for ever),
-- 'if indexed' or '', member, span, data
-- 1: it is stored; 0: refused; 2: the owner's index must be written first (only if asked 'if indexed')
local data = ARGV[7]
if live and version(head) == version(data) then
  redis.call('SETRANGE', KEYS[1], 0, string.sub(head, 1, 1)) -- WAIT waits for what this connection wrote, so it writes
  return 1
end
if ARGV[2] == '' then
  if live then return 0 end
elseif not live or version(head) ~= ARGV[2] then
  return 0
end

if ARGV[4] ~= '' then
  local size = owner(data)
  if stored_owner() ~= string.sub(data, 50, 49 + size) or time(data, 26) > time(head, 1) then return 2 end
  data = string.sub(head, 1, 8) .. string.sub(data, 9)
end
if KEYS[2] then index(KEYS[2], ARGV[5], ARGV[6]) end
if ARGV[3] == '' then redis.call('SET', KEYS[1], data)
elseif tonumber(ARGV[3]) > 0 then redis.call('SET', KEYS[1], data, 'PX', ARGV[3])
else redis.call('DEL', KEYS[1]) end
return 1
""",
)

TOUCH = _script(
    _RECORD,
    _INDEX,
    """
-- KEYS: record [, index]   ARGV: now, seen_at and expires_at, ms to live ('': for ever)
-- indexed_until, '=' and the owner whose index names the record until then, or '' [, member, span]
-- 1: touched; 0: absent; '=' and the record's owner: its index must be written first
if not live then return 0 end

local later = time(ARGV[2], 9) > time(head, 26)
if later and owner(head) and time(ARGV[2], 9) > time(head, 1) then
  local named = '=' .. stored_owner()
  if named ~= ARGV[5] then return named end
  if KEYS[2] then index(KEYS[2], ARGV[6], ARGV[7]) end
  redis.call('SETRANGE', KEYS[1], 0, ARGV[4])
end
if time(ARGV[2], 1) > time(head, 18) then redis.call('SETRANGE', KEYS[1], 17, string.sub(ARGV[2], 1, 8)) end
if later then
  redis.call('SETRANGE', KEYS[1], 25, string.sub(ARGV[2], 9, 16))
  if ARGV[3] == '' then redis.call('PERSIST', KEYS[1])
  elseif tonumber(ARGV[3]) > redis.call('PTTL', KEYS[1]) then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
end
return 1
""",
)

DELETE = _script(
    _RECORD,
    """
-- KEYS: record   ARGV: now, version that it must have or '', '=' and the owner that it must have or '', replicas
-- 1: deleted; 0: absent, or not that one
if head == '' then
  if ARGV[4] ~= '0' then -- deleted by a call whose answer got lost? WAIT waits for what this connection wrote
    redis.call('SET', KEYS[1], '')
    redis.call('DEL', KEYS[1])
  end
  return 0
end
if ARGV[2] ~= '' and version(head) ~= ARGV[2] then return 0 end
if ARGV[3] ~= '' and stored_owner() ~= string.sub(ARGV[3], 2) then return 0 end

redis.call('DEL', KEYS[1])
return live and 1 or 0
""",
)

INDEX = _script(
    _INDEX,
    """
-- KEYS: index   ARGV: member, span in seconds ('': for ever)
index(KEYS[1], ARGV[1], ARGV[2])
return 1
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
return 1
""",
)
