//go:build integration

package integration

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/inproc"
	"github.com/covey-ml/covey/internal/python"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/pki"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/rng"
)

// On a link of 100 Mbit/s between two network namespaces an exact run and compressed ones train. Each sends the bytes
// that its ledger expects, at the sockets as in the books, and the link carries as many fewer as the report says.
func TestCompressedLink(t *testing.T) {
	ns, near := joined(t, "100mbit", "32kb")
	certs := filepath.Join(t.TempDir(), "certs")
	now := time.Now()
	for _, err := range []error{pki.Init(certs, now), pki.Issue(certs, "near", now, nearHost), pki.Issue(certs, "far", now, farHost)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const steps = 100
	job := []string{"--data", "digits:train=4000,test=500", "--model", "mlp:64", "--batch", "100", "--steps", strconv.Itoa(steps), "--optimizer", "momentum", "--lr", "0.1",
		"--workers", "2", "--transport", "tcp", "--join", "1", "--listen", nearHost + ":7452", "--tls", certs, "--node", "near"}
	one := func(choice string) (r result, carried int64) {
		far := exec.Command("ip", "netns", "exec", ns, covey, "join", nearHost+":7452", "--tls", certs, "--node", "far")
		var complaint bytes.Buffer
		far.Stderr, far.Dir = &complaint, t.TempDir()
		if err := far.Start(); err != nil {
			t.Fatal(err)
		}
		defer far.Process.Kill()
		before := carriedBy(t, near)
		r = train(t, append([]string{"--compress", choice}, job...)...)
		carried = carriedBy(t, near) - before
		if err := far.Wait(); err != nil {
			t.Errorf("%s: the far worker: %v\n%s", choice, err, complaint.String())
		}
		if r.BytesSent != r.BytesExpected || r.BytesSent == 0 {
			t.Errorf("%s: %d bytes sent, %d expected", choice, r.BytesSent, r.BytesExpected)
		}
		if r.BytesSocket == nil || *r.BytesSocket != r.BytesSent+r.BytesControl {
			t.Errorf("%s: %v bytes at the sockets, %d sent and %d of control", choice, r.BytesSocket, r.BytesSent, r.BytesControl)
		}
		if carried < r.BytesSent {
			t.Errorf("%s: the link carried %d bytes, fewer than the %d sent", choice, carried, r.BytesSent)
		}
		if r.Steps != steps || r.Accuracy < 0.8 {
			t.Errorf("%s: accuracy %v after %d steps, expected at least 0.8 after %d", choice, r.Accuracy, r.Steps, steps)
		}
		return r, carried
	}
	exact, carried := one("none")
	for _, c := range []struct {
		choice string
		fewer  float64 // times, of a 64 x 256 matrix and little else
	}{{"topk:0.01+ef", 20}, {"powersgd:2+ef", 8}} {
		r, less := one(c.choice)
		if sent, seen := float64(exact.BytesSent)/float64(r.BytesSent), float64(carried)/float64(less); sent < c.fewer || seen < c.fewer/2 {
			t.Errorf("%s: %.1f times fewer bytes sent, %.1f times fewer on the link, expected at least %v and, with the headers of TCP, half of that", c.choice, sent, seen, c.fewer)
		}
	}
}

// carriedBy returns the bytes that an interface of this host has sent and received.
func carriedBy(t *testing.T, device string) int64 {
	t.Helper()
	sum := int64(0)
	for _, way := range []string{"rx", "tx"} {
		b, err := os.ReadFile("/sys/class/net/" + device + "/statistics/" + way + "_bytes")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}

// ask runs a Python program on in, as JSON, and reads its answer into out.
func ask(t *testing.T, script string, in, out any) {
	t.Helper()
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, python.With(t, "torch"), "-c", script)
	var complaint bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(b), &complaint
	answer, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, complaint.String())
	}
	if err := json.Unmarshal(answer, out); err != nil {
		t.Fatal(err)
	}
}

// PowerSGD with error feedback and warm start gives the sums of PyTorch's hook (Vogels et al. 2019, algorithms 1 and 2),
// from the same start Q and residuals, over six steps. The two keep different residuals: PyTorch what the sum's
// projection lacks of a rank's own matrix, we what the rank's own projection lacks. Their sums over the ranks are the
// same, and only those reach a result. Each side rounds in its own order.
func TestPowerSGDAgainstPyTorch(t *testing.T) {
	const ranks, steps, rows, cols, rank, seed = 2, 7, 40, 60, 3, 5
	layout := model.Layout{}.Add("w", rows, cols)
	rules, err := reduce.ParseRules(fmt.Sprintf("powersgd:rank=%d+ef", rank))
	if err != nil {
		t.Fatal(err)
	}
	tree := comm.NewTree(ranks, ranks)
	groups := inproc.New(ranks, 20*time.Second)
	reducers := make([]*reduce.Compressed, ranks)
	grads := make([][][]float32, steps) // by step and rank
	for rank, g := range groups {
		defer g.Close()
		reducers[rank] = reduce.NewCompressed(reduce.Config{Group: g, Tree: tree, Exact: &reduce.Exact{Group: g, Tree: tree}, Layout: layout, Rules: rules, Seed: seed})
	}
	draw := rng.New(seed, "test")
	sums := make([][]float32, steps)
	var q []float32
	residuals := make([][]float32, ranks)
	for step := range steps {
		errs := make(chan error, ranks)
		var vectors [ranks][]float32
		for rank, g := range groups {
			vectors[rank] = make([]float32, rows*cols)
			for i := range vectors[rank] {
				vectors[rank][i] = float32(draw.IntN(2001)-1000) / 1000
			}
			grads[step] = append(grads[step], append([]float32(nil), vectors[rank]...))
			g.Clock().Go(func() {
				errs <- reducers[rank].Sum(t.Context(), reduce.Vector{Name: "all", Parts: [][]float32{vectors[rank]}, Weight: 1, Total: 1, Step: step})
			})
		}
		for range ranks {
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
		}
		sums[step] = vectors[0]
		if step == 0 { // where PyTorch begins
			for rank, r := range reducers {
				q = stateOf(t, r, "q/w")
				residuals[rank] = stateOf(t, r, "kept/w")
			}
		}
	}
	const script = `
import json, os, sys, tempfile, torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook as h

class Bucket:
    def __init__(self, m): self.m = m
    def buffer(self): return self.m.view(-1)
    def gradients(self): return [self.m]
    def index(self): return 0
    def is_last(self): return True

def rank_of(rank, d, store, out):
    dist.init_process_group("gloo", init_method="file://" + store, rank=rank, world_size=2)
    state = h.PowerSGDState(None, matrix_approximation_rank=d["rank"], start_powerSGD_iter=2)
    state.iter = 2
    state.p_memory_dict[0] = torch.empty(d["rows"] * d["rank"])
    state.q_memory_dict[0] = torch.tensor(d["q"]).view(d["rank"], d["cols"]).t().reshape(-1).clone()
    state.error_dict[0] = torch.tensor(d["residuals"][rank])
    sums = []
    for grads in d["grads"][1:]:
        m = torch.tensor(grads[rank]).view(d["rows"], d["cols"])
        sums.append((2 * h.powerSGD_hook(state, Bucket(m)).wait()).tolist())
    if rank == 0:
        json.dump(sums, open(out, "w"))
    dist.barrier()

if __name__ == "__main__":
    d = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as t:
        children = [mp.get_context("fork").Process(target=rank_of, args=(r, d, t + "/store", t + "/out")) for r in range(2)]
        for c in children: c.start()
        for c in children: c.join()
        if any(c.exitcode for c in children): sys.exit("a rank failed")
        print(open(t + "/out").read())
`
	var theirs [][]float64
	ask(t, script, map[string]any{"rank": rank, "rows": rows, "cols": cols, "q": q, "residuals": residuals, "grads": grads}, &theirs)
	if len(theirs) != steps-1 {
		t.Fatalf("%d answers to %d steps", len(theirs), steps-1)
	}
	for step, want := range theirs {
		off, norm := 0.0, 0.0
		for i, v := range sums[step+1] {
			off += (float64(v) - want[i]) * (float64(v) - want[i])
			norm += want[i] * want[i]
		}
		if rel := math.Sqrt(off / norm); !(rel < 1e-4) || norm == 0 {
			t.Errorf("step %d: off by %g of the sum's norm %g", step+1, rel, math.Sqrt(norm))
		}
	}
}

// stateOf copies a tensor of a reducer's state.
func stateOf(t *testing.T, r *reduce.Compressed, name string) []float32 {
	t.Helper()
	for _, s := range r.State() {
		if s.Name != name {
			continue
		}
		out := make([]float32, s.Len())
		if err := s.CopyTo(out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	var names []string
	for _, s := range r.State() {
		names = append(names, s.Name)
	}
	t.Fatalf("no tensor %s (%s)", name, strings.Join(names, ", "))
	return nil
}
