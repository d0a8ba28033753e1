"""Prints digests of what NumPy computes, where IEEE 754 and C leave no choice.

On i386 Debian's NumPy computes by the x87, which rounds to 64 bits and then to 53 or 24; on armhf by vectors, which
know no small numbers of 32 bits, and divide by approximation; and elsewhere a compiler may fuse a multiplication with
what is added to it. So each step here is one operation: sums, differences and products of floats of 32 bits (64 bits
are more than twice 24 and 2), or on doubles where the exact result has no more than 64 bits; divisions and roots that
have no rest; sums of integers, which are exact in each order. Nothing is NaN.
"""

import hashlib

import numpy as np


def show(name, *arrays):
    digest = hashlib.sha256()
    for array in arrays:
        array = np.ascontiguousarray(array)
        # Indices have the machine's width.
        array = array.astype('i8') if array.dtype.kind == 'i' else array
        digest.update(f'{array.dtype.kind}{array.itemsize} {array.shape}'.encode())
        digest.update(array.astype(array.dtype.newbyteorder('<')).tobytes())
    print(name, digest.hexdigest())


rng = np.random.Generator(np.random.PCG64(20240229))
raw = rng.integers(0, 2**64, 4096, dtype=np.uint64)
for generator in np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64:
    show(generator.__name__, generator(7).random_raw(1000), np.random.Generator(generator(7)).random(1000))
show('choice', rng.permutation(1000), rng.integers(-50, 50, (30, 30)), rng.bytes(100) and np.zeros(1))

for kind in 'u1', 'i1', 'u2', 'i2', 'u4', 'i4', 'u8', 'i8':
    kind = np.dtype(kind)
    x = np.resize(np.frombuffer(raw.astype('<u8').tobytes(), kind.newbyteorder('<')), 5000).astype(kind)
    y = np.roll(x, 17)
    z = np.where(y == 0, 3, y).astype(kind)
    with np.errstate(all='ignore'):
        show(f'{kind} arithmetic', x + y, x - y, x * y, x // z, x % z, np.abs(x), -x)
    show(f'{kind} bits', x & y, x | y, x ^ y, ~x, x << (y & 7), x >> (y & 7), np.bitwise_count(x))
    show(f'{kind} comparisons', x < y, x == y, np.maximum(x, y), np.minimum(x, y), np.clip(x, 10, 100))
    show(
        f'{kind} sums',
        *(f(x, dtype=kind.kind + '8') for f in (np.sum, np.prod, np.cumsum)),
        x.max(),
        x.argmin(),
        np.bitwise_xor.reduce(x),
    )
    show(f'{kind} orders', np.sort(x), np.argsort(x, kind='stable'), np.unique(x), np.partition(x, 99)[99:100])
    show(f'{kind} products', x[:400].reshape(20, 20) @ y[:400].reshape(20, 20), np.convolve(x[:50], y[:9]))

single = (raw >> np.uint64(40)).astype('f4') - np.float32(2**23)
single = single * np.float32(2**-10)
other = np.roll(single, 5)
show('f4 arithmetic', single + other, single - other, single * other)
show('f4 others', np.floor(single), np.rint(single), np.trunc(single), np.copysign(single, other), np.sort(single))
show('f4 parts', *np.frexp(single), np.nextafter(single, other), np.signbit(single), single < other)
show('f4 conversions', single.astype('i4'), single.astype('f8'), single.astype('f2'), single.astype('f2').astype('f4'))

double = (raw >> np.uint64(33)).astype('f8') - 2.0**30
other = np.roll(double, 5)
show('f8 arithmetic', double + other, double * other, double * 0.5**40, np.negative(double), double < other)
some = np.where(double == 0, 3.0, np.floor(double * 0.5**6))
show('f8 division', (some * np.roll(some, 9)) / np.where(some == 0, 1.0, some), np.sqrt(some * some))
show('f8 denormals', double * 2.0**-1060, double * 2.0**-1060 * 2.0**1000)
show('f8 others', np.floor(double * 0.5**7), np.rint(double * 0.5**7), np.modf(double * 0.5**7)[0], np.sort(double))
show('f8 conversions', double.astype('i8'), double.astype('f4'), (double * 0.5**9).astype('i4'), raw.astype('f8'))
small = np.floor(double * 0.5**20)
show(
    'f8 sums',
    small.sum(),
    small.cumsum(),
    np.dot(small, np.roll(small, 3)),
    small.reshape(64, 64) @ small.reshape(64, 64),
)
show('f8 of one bit', np.fft.fftshift(small), np.histogram(small, bins=16, range=(-1024, 1024))[0])
show('einsum', np.einsum('ij,kj->ik', small.reshape(64, 64), small.reshape(64, 64)))
show('text', np.frombuffer('\n'.join(map(repr, (double * 0.5**40).tolist())).encode(), 'u1'))
show('parsed', np.array([float(f'{i}.{i}e{i % 600 - 300}') for i in range(1, 3000)]))
