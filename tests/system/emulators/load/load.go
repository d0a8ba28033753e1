// See test_runtimes.py.
package main

import (
	"fmt"
	"os"
	"strconv"
)

type item struct {
	value int64
	text  string
}

func work(seed int64, steps int, result chan<- int64) {
	table := make([]*item, 1000)
	x, sum := seed, int64(0)
	for i := 0; i < steps; i++ {
		x = x * 48271 % 2147483647
		table[x%1000] = &item{x, strconv.FormatInt(x, 10)}
		if other := table[x/1000%1000]; other != nil {
			sum = (sum + other.value + int64(len(other.text))) % 1000000007
		}
	}
	result <- sum
}

func number(word string) int {
	value, err := strconv.Atoi(word)
	if err != nil {
		panic(err)
	}
	return value
}

func main() {
	threads, rounds, steps := number(os.Args[1]), number(os.Args[2]), number(os.Args[3])
	total, result := int64(0), make(chan int64)
	for round := 0; round < rounds; round++ {
		for i := 1; i <= threads; i++ {
			go work(int64(round*threads+i), steps, result)
		}
		for i := 1; i <= threads; i++ {
			total += <-result
		}
	}
	fmt.Println(total)
}
