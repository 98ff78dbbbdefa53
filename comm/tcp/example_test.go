package tcp_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/tcp"
	"github.com/covey-ml/covey/pki"
)

// Two workers listen, learn each other's address, form a group and greet. Here they are goroutines of one process; in
// earnest something else, such as package cluster, carries addresses and secret between processes.
func ExampleListener_Connect() {
	ctx := context.Background()
	secret := make([]byte, 32)
	rand.Read(secret)
	var listeners []*tcp.Listener
	var addrs []string
	for range 2 {
		ln, err := tcp.Listen(ctx, "127.0.0.1:0", nil)
		if err != nil {
			log.Fatal(err)
		}
		listeners, addrs = append(listeners, ln), append(addrs, ln.Addr())
	}
	var wg sync.WaitGroup
	for rank, ln := range listeners {
		wg.Go(func() {
			g, err := ln.Connect(ctx, comm.Rank(rank), addrs, tcp.Config{Generation: 1, Secret: secret, Timeout: 10 * time.Second})
			if err != nil {
				log.Fatal(err)
			}
			defer g.Close()
			tag := comm.MakeTag(comm.OpSend, 1)
			if rank == 1 {
				if err := g.Send(ctx, 0, tag, []byte("hello from rank 1")); err != nil {
					log.Fatal(err)
				}
				return
			}
			p := make([]byte, 100)
			from, n, err := g.Recv(ctx, comm.AnyRank, tag, p)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Printf("rank %d says %q\n", from, p[:n])
		})
	}
	wg.Wait()
	// Output: rank 1 says "hello from rank 1"
}

// Without certificates a worker talks to its own machine only.
func ExampleListen() {
	_, err := tcp.Listen(context.Background(), "0.0.0.0:0", nil)
	fmt.Println(err)

	dir, err := os.MkdirTemp("", "ca")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	now := time.Now()
	if err := pki.Init(dir+"/ca", now); err != nil { // covey ca init
		log.Fatal(err)
	}
	if err := pki.Issue(dir+"/ca", "node1", now, "10.0.0.11"); err != nil { // covey ca issue
		log.Fatal(err)
	}
	conf, err := pki.Load(dir+"/ca", "node1", now)
	if err != nil {
		log.Fatal(err)
	}
	ln, err := tcp.Listen(context.Background(), "0.0.0.0:0", conf)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("with certificates: listening")
	ln.Close()
	// Output:
	// tcp: not listening on 0.0.0.0:0: beyond loopback both sides must show certificates: make them with `covey ca init DIR` and `covey ca issue DIR NAME HOST...` and give them to every worker, or stay on 127.0.0.1
	// with certificates: listening
}
