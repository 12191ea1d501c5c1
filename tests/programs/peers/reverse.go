// reverse.go server|client PORT ...: see README.md of this folder.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
)

var sizes = []int{1, 10, 100, 1000, 10000, 100000}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func message(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(r, body)
	return body, err
}

func send(w io.Writer, body []byte) {
	all := make([]byte, 4+len(body))
	binary.BigEndian.PutUint32(all, uint32(len(body)))
	copy(all[4:], body)
	_, err := w.Write(all)
	check(err)
}

func serveOne(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		body, err := message(r)
		if err != nil {
			break
		}
		for i, j := 0, len(body)-1; i < j; i, j = i+1, j-1 {
			body[i], body[j] = body[j], body[i]
		}
		send(c, body)
	}
	c.Close()
}

func ask(address string, blob []byte, rounds int, sum chan string) {
	c, err := net.Dial("tcp", address)
	check(err)
	r := bufio.NewReader(c)
	digest := sha256.New()
	for i := 0; i < rounds; i++ {
		at := i * 37 % 5000
		send(c, blob[at:at+sizes[i%len(sizes)]])
		body, err := message(r)
		check(err)
		digest.Write(body)
	}
	c.Close()
	sum <- fmt.Sprintf("%x", digest.Sum(nil))
}

func main() {
	address := "127.0.0.1:" + os.Args[2]
	if os.Args[1] == "server" {
		l, err := net.Listen("tcp", address)
		check(err)
		for {
			c, err := l.Accept()
			check(err)
			go serveOne(c)
		}
	}
	blob, err := os.ReadFile(os.Args[3])
	check(err)
	connections, _ := strconv.Atoi(os.Args[4])
	rounds, _ := strconv.Atoi(os.Args[5])
	sums := make([]chan string, connections)
	for k := range sums {
		sums[k] = make(chan string, 1)
		go ask(address, blob, rounds, sums[k])
	}
	for k := range sums {
		fmt.Println(k, rounds, <-sums[k])
	}
}
