# See test_runtimes.py.
import sys
from threading import Thread


class Item:
    def __init__(self, value, text):
        self.value, self.text = value, text


def work(seed, steps, sums):
    table = [None] * 1000
    x, result = seed, 0
    for _ in range(steps):
        x = x * 48271 % 2147483647
        table[x % 1000] = Item(x, str(x))
        other = table[x // 1000 % 1000]
        if other:
            result = (result + other.value + len(other.text)) % 1000000007
    sums.append(result)


threads, rounds, steps = map(int, sys.argv[1:])
sums = []
for number in range(rounds):
    started = [Thread(target=work, args=(number * threads + i + 1, steps, sums)) for i in range(threads)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
print(sum(sums))
