<?php
// See test_runtimes.py. PHP has processes in place of threads: they share what opcache compiled.
final class Item
{
    public function __construct(public int $value, public string $text)
    {
    }
}

function work(int $seed, int $steps): int
{
    $table = [];
    $x = $seed;
    $sum = 0;
    for ($i = 0; $i < $steps; $i++) {
        // $x * 48271 % 2147483647, in steps that fit into 32 bits.
        $x = 48271 * ($x % 44488) - 3399 * intdiv($x, 44488);
        if ($x < 0) {
            $x += 2147483647;
        }
        $table[$x % 1000] = new Item($x, (string) $x);
        $other = $table[intdiv($x, 1000) % 1000] ?? null;
        if ($other) {
            $sum = ($sum + $other->value % 1000000007 + strlen($other->text)) % 1000000007;
        }
    }
    return $sum;
}

if (!(opcache_get_status()['jit']['on'] ?? false)) {
    exit("the JIT is not on\n");
}
[, $threads, $rounds, $steps] = $argv;
$total = 0;
for ($round = 0; $round < $rounds; $round++) {
    $pipes = [];
    for ($i = 1; $i <= $threads; $i++) {
        $pair = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        if (pcntl_fork() === 0) {
            fwrite($pair[0], (string) work($round * $threads + $i, (int) $steps));
            exit(0);
        }
        fclose($pair[0]);
        $pipes[] = $pair[1];
    }
    foreach ($pipes as $pipe) {
        $total += (int) stream_get_contents($pipe);
    }
    for ($i = 1; $i <= $threads; $i++) {
        pcntl_wait($status);
        if ($status !== 0) {
            exit("a child ended with status $status\n");
        }
    }
}
echo "$total\n";
