# See test_runtimes.py.
Item = Struct.new(:value, :text)

def work(seed, steps)
  table = Array.new(1000)
  x = seed
  sum = 0
  steps.times do
    x = x * 48271 % 2147483647
    table[x % 1000] = Item.new(x, x.to_s)
    other = table[x / 1000 % 1000]
    sum = (sum + other.value + other.text.length) % 1000000007 if other
  end
  sum
end

threads, rounds, steps = ARGV.map(&:to_i)
total = 0
rounds.times do |round|
  sums = (1..threads).map { |i| Thread.new { work(round * threads + i, steps) } }
  # Threads of one process run one at a time; so a process works, too.
  from, to = IO.pipe
  child = fork do
    to.puts work(round * threads + 1, steps)
    to.close
    exit!(true)
  end
  to.close
  GC.compact if GC.respond_to?(:compact)
  sums = sums.map(&:value)
  raise 'parent and child differ' unless from.read.to_i == sums[0]
  Process.wait(child)
  raise 'the child failed' unless $?.success?
  total += sums.sum
end
puts total
