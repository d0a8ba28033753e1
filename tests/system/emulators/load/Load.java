// See test_runtimes.py.
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

class Load {
    record Item(long value, String text) {}

    static long work(long seed, int steps) {
        Item[] table = new Item[1000];
        long x = seed, sum = 0;
        for (int i = 0; i < steps; i++) {
            x = x * 48271 % 2147483647L;
            table[(int) (x % 1000)] = new Item(x, Long.toString(x));
            Item other = table[(int) (x / 1000 % 1000)];
            if (other != null) sum = (sum + other.value + other.text.length()) % 1000000007L;
        }
        return sum;
    }

    public static void main(String[] words) throws Exception {
        int threads = Integer.parseInt(words[0]), rounds = Integer.parseInt(words[1]), steps = Integer.parseInt(words[2]);
        long total = 0;
        for (int round = 0; round < rounds; round++) {
            var pool = Executors.newFixedThreadPool(threads);
            List<Callable<Long>> jobs = new ArrayList<>();
            for (int i = 1; i <= threads; i++) {
                int seed = round * threads + i;
                jobs.add(() -> work(seed, steps));
            }
            for (Future<Long> job : pool.invokeAll(jobs)) total += job.get();
            pool.shutdown();
        }
        System.out.println(total);
    }
}
