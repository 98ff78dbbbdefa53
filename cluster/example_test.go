package cluster_test

import (
	"context"
	"fmt"
	"log"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
)

// A run of one worker, both ends in one program. The worker says where its peers would find it, is told what it is, and
// reports how the run went.
func Example() {
	ctx, clock, token := context.Background(), comm.RealClock(), cluster.NewToken()
	coordinator, err := cluster.Listen("127.0.0.1:0", token, nil, clock)
	if err != nil {
		log.Fatal(err)
	}
	defer coordinator.Close()

	go func() {
		conn, err := cluster.Dial(ctx, coordinator.Addr(), nil, clock)
		if err != nil {
			log.Fatal(err)
		}
		member, err := cluster.Join(ctx, conn, token, "127.0.0.1:7001", -1, clock)
		if err != nil {
			log.Fatal(err)
		}
		defer member.Close()
		w := member.Welcome
		if err := member.Report(fmt.Sprintf("rank %d of %d did %q", w.Rank, w.Size, w.Job)); err != nil {
			log.Fatal(err)
		}
	}()

	if err := coordinator.Gather(ctx, 1, cluster.Welcome{Job: []byte("model: softmax")}, nil); err != nil {
		log.Fatal(err)
	}
	coordinator.Hear(func(rank int, m cluster.Message) {
		if m.Kind == cluster.KindReport {
			fmt.Printf("from rank %d: %s\n", rank, m.Report)
		}
	})
	// Output: from rank 0: "rank 0 of 1 did \"model: softmax\""
}
