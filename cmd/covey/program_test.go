package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"testing"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/data"
	"github.com/covey-ml/covey/model/linear"
	"github.com/covey-ml/covey/train"
	"github.com/covey-ml/covey/worker"
)

// trainer is a program for covey launch to start, which the scripts know by that name: it trains a small model, and one of its
// ranks does something at a step.
func trainer() {
	at := flag.String("at", "", "RANK:STEP:WHAT, with kill, exit, done or interrupt, which is for the launcher")
	once := flag.String("once", "", "do that unless this file is there, and make it")
	after := flag.Int("after", 0, "exit code after training")
	flag.Parse()
	text, err := trains(*at, *once)
	fmt.Print(text)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(worker.ExitCode(err))
	}
	fmt.Fprintln(os.Stderr, "trained")
	os.Exit(*after)
}

func trains(at, once string) (string, error) {
	x, y := make([]float32, 240*4), make([]float32, 240)
	for i := range x {
		x[i] = float32(i%7) - 3
	}
	for i := range y {
		y[i] = x[4*i] - 2*x[4*i+1]
	}
	model, err := linear.NewLinear(linear.Config{Dim: 4, Outputs: 1})
	if err != nil {
		return "", err
	}
	c := train.Config{Model: model, Train: data.DenseTargets("table", 4, x, y, 1), Batch: 24, Microshards: 6, Epochs: 20, Seed: 1}
	if at != "" {
		var rank, step int
		var what string
		if _, err := fmt.Sscanf(strings.ReplaceAll(at, ":", " "), "%d %d %s", &rank, &step, &what); err != nil {
			return "", err
		}
		if what == "interrupt" {
			c.Epochs = 1 << 20 // it is not over before the word of it has come
		}
		steps := 0
		c.Stop = func() bool { // every worker is asked, once a step
			if steps++; steps == step && os.Getenv(cluster.EnvRank) == fmt.Sprint(rank) {
				act(what, once)
			}
			return false
		}
	}
	r, err := worker.Run(context.Background(), c, worker.Signals())
	if err != nil || r.Rank > 0 {
		return "", err
	}
	return fmt.Sprintf("weights %s\n", r.Weights), nil
}

func act(what, once string) {
	if once != "" {
		f, err := os.OpenFile(once, os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return
		}
		f.Close()
	}
	fmt.Fprint(os.Stderr, "last words") // and no end of the line
	switch what {
	case "kill":
		cluster.KillSelf()
	case "exit":
		os.Exit(7)
	case "done":
		os.Exit(0)
	case "interrupt":
		if p, err := os.FindProcess(os.Getppid()); err == nil {
			p.Signal(os.Interrupt)
		}
	}
}

// What programs print comes out in whole lines, whatever the writes, and the last of them are kept.
func TestOutputs(t *testing.T) {
	var first, others strings.Builder
	o := &outputs{first: &first, others: &others}
	out0, err0 := o.of(0, nil)
	out2, _ := o.of(2, nil)
	long := strings.Repeat("x", longLine+10)
	for _, text := range []string{"a", "b\nc", "d\n\n", "e\nf\ng\nh\n", long, "\nend"} {
		out2.Write([]byte(text))
	}
	out0.Write([]byte("raw\x00"))
	err0.Write([]byte("error\n"))
	o.flush()
	want := "[2] ab\n[2] cd\n[2] \n[2] e\n[2] f\n[2] g\n[2] h\n[2] " + long + "\n[2] \nerror\n[2] end\n"
	got := others.String()
	if cut := strings.ReplaceAll(got, "x\n[2] x", "xx"); strings.ReplaceAll(cut, "x\n[2] \n", "x\n[2] \n") != want || first.String() != "raw\x00" {
		t.Errorf("got %q and %q", first.String(), got)
	}
	if got := o.last(2); strings.Count(got, "\n") != lastLines || !strings.HasSuffix(got, "  end\n") {
		t.Errorf("kept %q", got)
	}
	now := false
	out3, _ := o.of(3, func() bool { return now })
	out3.Write([]byte("not yet\n"))
	now = true
	out3.Write([]byte("now\n"))
	if !strings.HasSuffix(others.String(), "[3] not yet\n") || first.String() != "raw\x00now\n" {
		t.Errorf("got %q and %q", first.String(), others.String())
	}
	if got := o.last(1); got != "" {
		t.Errorf("of nobody: %q", got)
	}
}
