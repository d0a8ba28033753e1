-- See test_runtimes.py. LuaJIT has coroutines in place of threads; a callback from C makes it leave and enter what it compiled.
local ffi = require('ffi')
ffi.cdef('void qsort(void *, size_t, size_t, int (*)(const int *, const int *));')

local function work(seed, steps)
    local items, x, sum = {}, seed, 0
    for i = 1, steps do
        x = x * 48271 % 2147483647
        items[x % 1000] = { value = x, text = string.format('%.0f', x) }
        local other = items[math.floor(x / 1000) % 1000]
        if other then sum = (sum + other.value + #other.text) % 1000000007 end
        if i % 1000 == 0 then coroutine.yield() end
    end
    return sum
end

local function sort()
    local numbers, x = ffi.new('int[200]'), 1
    for i = 0, 199 do
        x = x * 48271 % 2147483647
        numbers[i] = x
    end
    local less = ffi.cast('int (*)(const int *, const int *)', function(a, b) return a[0] < b[0] and -1 or 1 end)
    ffi.C.qsort(numbers, 200, 4, less)
    less:free()
    for i = 1, 199 do assert(numbers[i - 1] <= numbers[i], 'not sorted') end
end

local threads, rounds, steps = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3])
assert(jit.status(), 'the JIT is not on')
local total = 0
for round = 0, rounds - 1 do
    local routines, left = {}, threads
    for i = 1, threads do
        local seed = round * threads + i
        routines[i] = coroutine.create(function() return work(seed, steps) end)
    end
    while left > 0 do
        for i = 1, threads do
            if coroutine.status(routines[i]) ~= 'dead' then
                local good, sum = coroutine.resume(routines[i])
                assert(good, sum)
                if sum then
                    total = total + sum
                    left = left - 1
                end
            end
        end
    end
    sort()
end
print(string.format('%.0f', total))
