// Makes garbage in many goroutines and collects it. The collector keeps addresses and a counter in 64 bits together, in lists
// without locks; Go before 1.26 ends a program whose addresses have more bits than amd64's.
package main

import (
	"fmt"
	"runtime"
	"sync"
)

type node struct{ left, right *node }

func tree(depth int) *node {
	if depth == 0 {
		return &node{}
	}
	return &node{tree(depth - 1), tree(depth - 1)}
}

func (n *node) count() int {
	if n.left == nil {
		return 1
	}
	return 1 + n.left.count() + n.right.count()
}

func main() {
	var wait sync.WaitGroup
	sums := make([]int, 40)
	for i := range sums {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			for round := 0; round < 3; round++ {
				sums[i] += tree(9).count()
				runtime.Gosched()
			}
		}(i)
	}
	for i := 0; i < 5; i++ {
		runtime.GC()
	}
	wait.Wait()
	runtime.GC()
	sum := 0
	for _, each := range sums {
		sum += each
	}
	fmt.Println(sum)
}
