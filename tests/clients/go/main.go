package main

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strconv"
)

func main() {
	// From another goroutine, as Go's scheduler is what emulators have stumbled over.
	words := make(chan string)
	go func() {
		one := make([]byte, 2)
		binary.NativeEndian.PutUint16(one, 1)
		words <- map[byte]string{1: "little", 0: "big"}[one[0]]
	}()
	runtime.GC()
	fmt.Printf("hello from Go on %s, %d-bit, %s-endian\n", runtime.GOARCH, strconv.IntSize, <-words)
}
