package tcp

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

const benchEnv = "COVEY_TCP_BENCH_RANK"

// BenchmarkAllReduce is an all-reduce in place between processes on this machine, one of them this one. Beside the mean it
// shows the median.
func BenchmarkAllReduce(b *testing.B) {
	for _, n := range []int{2, 4} {
		b.Run(fmt.Sprintf("processes=%d", n), func(b *testing.B) {
			g := processes(b, n)
			for _, size := range []int{1 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20, 64 << 20} {
				b.Run(fmt.Sprint(size), func(b *testing.B) {
					b.SetBytes(int64(size))
					order(b, g, size/4, b.N)
					b.ResetTimer()
					took, err := sums(g, size/4, b.N)
					if err != nil {
						b.Fatal(err)
					}
					slices.Sort(took)
					b.ReportMetric(float64(took[len(took)/2])/1e3, "p50-us")
				})
			}
			order(b, g, 0, 0)
		})
	}
}

// sums checks one sum, makes so many more of zeros and returns the time of each.
func sums(g comm.Group, n, times int) ([]time.Duration, error) {
	ctx, t := context.Background(), comm.NewTree(g.Size(), g.Size())
	x := [][]float32{make([]float32, n)}
	for i := range x[0] {
		x[0][i] = float32(i%1000 + int(g.Rank()))
	}
	if err := comm.AllReduce(ctx, g, t, x); err != nil {
		return nil, err
	}
	p := g.Size()
	for i, v := range x[0] {
		if want := float32(p*(i%1000) + p*(p-1)/2); v != want {
			return nil, fmt.Errorf("element %d is %v, not %v", i, v, want)
		}
	}
	clear(x[0])
	took := make([]time.Duration, times)
	for i := range took {
		begun := time.Now()
		if err := comm.AllReduce(ctx, g, t, x); err != nil {
			return nil, err
		}
		took[i] = time.Since(begun)
	}
	return took, nil
}

// order tells the other processes to make so many sums; none ends them.
func order(b *testing.B, g comm.Group, n, times int) {
	p := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, uint64(n)), uint64(times))
	if err := comm.Broadcast(context.Background(), g, 0, p); err != nil {
		b.Fatal(err)
	}
}

// processes starts the other ranks of a group whose rank 0 is here.
func processes(b *testing.B, n int) comm.Group {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	ctx := context.Background()
	ln, err := Listen(ctx, "127.0.0.1:0", nil)
	if err != nil {
		b.Fatal(err)
	}
	addrs := []string{ln.Addr()}
	var tell []*json.Encoder
	for r := 1; r < n; r++ {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", benchEnv, r))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		lines := bufio.NewScanner(out)
		if !lines.Scan() {
			b.Fatalf("rank %d says nothing", r)
		}
		addrs, tell = append(addrs, lines.Text()), append(tell, json.NewEncoder(in))
	}
	for _, t := range tell {
		if err := t.Encode(addrs); err != nil {
			b.Fatal(err)
		}
	}
	g, err := ln.Connect(ctx, 0, addrs, Config{Secret: secret, Timeout: patient})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { g.Close() })
	return g
}

// benchWorker is the test binary started again as one of the other ranks; elsewhere it returns false.
func benchWorker() bool {
	var rank comm.Rank
	if _, err := fmt.Sscan(os.Getenv(benchEnv), &rank); err != nil {
		return false
	}
	if err := obey(rank); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return true
}

func obey(rank comm.Rank) error {
	ctx := context.Background()
	ln, err := Listen(ctx, "127.0.0.1:0", nil)
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	var addrs []string
	if err := json.NewDecoder(os.Stdin).Decode(&addrs); err != nil {
		return err
	}
	g, err := ln.Connect(ctx, rank, addrs, Config{Secret: secret, Timeout: patient})
	if err != nil {
		return err
	}
	defer g.Close()
	for {
		p := make([]byte, 16)
		if err := comm.Broadcast(ctx, g, 0, p); err != nil {
			return err
		}
		n, times := int(binary.LittleEndian.Uint64(p)), int(binary.LittleEndian.Uint64(p[8:]))
		if times == 0 {
			return nil
		}
		if _, err := sums(g, n, times); err != nil {
			return err
		}
	}
}
