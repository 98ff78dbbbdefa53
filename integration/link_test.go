//go:build integration

package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/tcp"
	"github.com/covey-ml/covey/pki"
)

const (
	farEnv   = "COVEY_INTEGRATION_FAR" // the folder with the certificates: this process is rank 1 of TestGigabitLink
	nearHost = "10.214.7.1"
	farHost  = "10.214.7.2"
	linkRuns = 7
)

var linkSizes = []int{4 << 20, 16 << 20, 64 << 20}

// On a link of 1 Gbit/s between two network namespaces an all-reduce over TLS gives the right sum, and the test prints
// how near it comes to two opposite plain TCP streams of the same bytes, alternating with it.
func TestGigabitLink(t *testing.T) {
	ns, _ := joined(t, "1gbit", "64kb")
	certs := filepath.Join(t.TempDir(), "certs")
	now := time.Now()
	for _, err := range []error{pki.Init(certs, now), pki.Issue(certs, "0", now, nearHost), pki.Issue(certs, "1", now, farHost)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	far := exec.Command("ip", "netns", "exec", ns, self)
	far.Env = append(os.Environ(), farEnv+"="+certs)
	far.Stderr = os.Stderr
	if err := far.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Process.Kill() })
	took, err := linkSide(certs, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := far.Wait(); err != nil {
		t.Errorf("the far side: %v", err)
	}
	for i, size := range linkSizes {
		sums, streams := took[i][0], took[i][1]
		slices.Sort(sums)
		slices.Sort(streams)
		sum, stream := sums[linkRuns/2], streams[linkRuns/2]
		t.Logf("%2d MiB: all-reduce over TLS %v, two plain streams %v, ratio %.3f (medians of %d)", size>>20, sum, stream, float64(stream)/float64(sum), linkRuns)
	}
}

// joined makes a network namespace and a link of a rate to it, nearHost at this end and farHost at the other. It returns the
// namespace and the device at this end. burst is what may pass at once after a pause.
func joined(t *testing.T, rate, burst string) (ns, near string) {
	t.Helper()
	ns = fmt.Sprintf("coveylink%d", os.Getpid())
	host, there := fmt.Sprintf("cvc%d", os.Getpid()%100000), fmt.Sprintf("cvd%d", os.Getpid()%100000)
	must(t, "ip", "netns", "add", ns)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	must(t, "ip", "link", "add", host, "type", "veth", "peer", "name", there, "netns", ns)
	t.Cleanup(func() { exec.Command("ip", "link", "del", host).Run() })
	must(t, "ip", "addr", "add", nearHost+"/24", "dev", host)
	must(t, "ip", "link", "set", host, "up")
	must(t, "ip", "-n", ns, "addr", "add", farHost+"/24", "dev", there)
	must(t, "ip", "-n", ns, "link", "set", there, "up")
	must(t, "tc", "qdisc", "add", "dev", host, "root", "tbf", "rate", rate, "burst", burst, "latency", "50ms")
	must(t, "tc", "-n", ns, "qdisc", "add", "dev", there, "root", "tbf", "rate", rate, "burst", burst, "latency", "50ms")
	return ns, host
}

// linkSide is one end of the link. It returns, for each size, the times of the all-reduces and of the streams.
func linkSide(certs string, rank comm.Rank) (took [][2][]time.Duration, err error) {
	ctx := context.Background()
	conf, err := pki.Load(certs, fmt.Sprint(rank), time.Now())
	if err != nil {
		return nil, err
	}
	addrs := []string{nearHost + ":7450", farHost + ":7450"}
	ln, err := tcp.Listen(ctx, addrs[rank], conf)
	if err != nil {
		return nil, err
	}
	var door net.Listener
	if rank == 0 {
		if door, err = net.Listen("tcp", nearHost+":7451"); err != nil {
			return nil, err
		}
		defer door.Close()
	}
	g, err := ln.Connect(ctx, rank, addrs, tcp.Config{Secret: []byte("of a test, thirty-two bytes long")})
	if err != nil {
		return nil, err
	}
	defer g.Close()
	var streams [2]net.Conn // one each way
	for i := range streams {
		if rank == 0 {
			streams[i], err = door.Accept()
		} else {
			streams[i], err = net.Dial("tcp", nearHost+":7451")
		}
		if err != nil {
			return nil, err
		}
		defer streams[i].Close()
	}
	tree := comm.NewTree(2, 2)
	for _, size := range linkSizes {
		var both [2][]time.Duration
		x, y := make([]float32, size/4), make([]byte, size)
		for run := range linkRuns + 1 { // the first warms up
			for i := range x {
				x[i] = float32(i%1000 + run + int(rank))
			}
			if err := comm.Barrier(ctx, g); err != nil {
				return nil, err
			}
			begun := time.Now()
			if err := comm.AllReduce(ctx, g, tree, [][]float32{x}); err != nil {
				return nil, err
			}
			summed := time.Since(begun)
			for i, v := range x {
				if want := float32(2*(i%1000+run) + 1); v != want {
					return nil, fmt.Errorf("element %d of %d is %v, not %v", i, len(x), v, want)
				}
			}
			if err := comm.Barrier(ctx, g); err != nil {
				return nil, err
			}
			begun = time.Now()
			sent := make(chan error, 1)
			go func() {
				_, err := streams[rank].Write(make([]byte, size))
				sent <- err
			}()
			if _, err := io.ReadFull(streams[1-rank], y); err != nil {
				return nil, err
			}
			if err := <-sent; err != nil {
				return nil, err
			}
			if run > 0 {
				both[0], both[1] = append(both[0], summed), append(both[1], time.Since(begun))
			}
		}
		took = append(took, both)
	}
	return took, comm.Barrier(ctx, g)
}
