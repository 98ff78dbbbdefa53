package tcp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
)

const workerEnv = "COVEY_TCP_TEST_RANK"

// worker is the test binary started again as one rank of a group: it prints its address, reads all of them, and sends
// a token round and round until something ends it. It prints what that was. Elsewhere it returns false.
func worker() bool {
	var rank comm.Rank
	if _, err := fmt.Sscan(os.Getenv(workerEnv), &rank); err != nil {
		return false
	}
	ctx := context.Background()
	ln, err := Listen(ctx, "127.0.0.1:0", nil)
	if err != nil {
		fmt.Println(err)
		return true
	}
	fmt.Println(ln.Addr())
	var addrs []string
	if err := json.NewDecoder(os.Stdin).Decode(&addrs); err != nil {
		fmt.Println(err)
		return true
	}
	g, err := ln.Connect(ctx, rank, addrs, Config{Generation: 1, Secret: secret, Timeout: patient})
	if err != nil {
		fmt.Println(err)
		return true
	}
	n := comm.Rank(len(addrs))
	p := make([]byte, 1000)
	for round := 0; ; round++ {
		if round == 10 {
			fmt.Println("going")
		}
		for r := range n {
			if r != rank && err == nil {
				err = g.Send(ctx, r, tag, p)
			}
		}
		for r := range n {
			if r != rank && err == nil {
				_, _, err = g.(*group).Recv(ctx, r, tag, p)
			}
		}
		if err != nil {
			break
		}
	}
	var pe *comm.PeerError
	if errors.As(err, &pe) {
		fmt.Printf("rank %d lost: %v\n", pe.Rank, errors.Is(err, comm.ErrLost))
		g.(*group).Poison(pe)
	} else {
		fmt.Println(err)
	}
	g.Close()
	return true
}

// One of four processes is killed; within seconds, not the group's minute, each of the others names it: those who see the connection end, and,
// since these poison the group before they leave, those who hear of it from them.
func TestKilledProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Skip("no path to the test binary: ", err)
	}
	const n, victim = 4, 2
	type proc struct {
		cmd *exec.Cmd
		out *bufio.Scanner
	}
	var procs [n]proc
	var addrs []string
	var stdins [n]*json.Encoder
	line := func(r int) string {
		if !procs[r].out.Scan() {
			t.Fatalf("rank %d says no more: %v", r, procs[r].out.Err())
		}
		return procs[r].out.Text()
	}
	for r := range n {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", workerEnv, r))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		procs[r], stdins[r] = proc{cmd, bufio.NewScanner(out)}, json.NewEncoder(in)
		addrs = append(addrs, line(r))
	}
	for r := range n {
		if err := stdins[r].Encode(addrs); err != nil {
			t.Fatal(err)
		}
	}
	for r := range n {
		if s := line(r); s != "going" {
			t.Fatalf("rank %d: %s", r, s)
		}
	}
	start := time.Now()
	if err := procs[victim].cmd.Process.Kill(); err != nil { // SIGKILL
		t.Fatal(err)
	}
	for r := range n {
		if r == victim {
			continue
		}
		if s, want := line(r), fmt.Sprintf("rank %d lost: true", victim); s != want {
			t.Errorf("rank %d: %q, want %q", r, s, want)
		}
	}
	if d := time.Since(start); d > 5*time.Second && runtime.GOOS == "linux" {
		t.Errorf("it took %v", d)
	}
}
