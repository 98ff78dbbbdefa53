//go:build integration

package integration

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Partitions: a run on hosts of their own, whose network is cut in two after some step. COVEY_PARTITIONS is how many there are (3),
// and COVEY_PARTITIONS_SEED the seed of the first (random, printed).

// partition is what a seed makes of one.
type partition struct {
	job    chaosJob
	nodes  []int // hosts of three NATS servers; nil: there is one, inside the launcher
	near   []int // the hosts on the side that reaches most servers
	far    []int
	fewest int // workers without which none go on
	after  int // steps
	// mended says that the network is mended while those on the far side still wait, and not after they have given up.
	mended bool
}

// partitionHosts have a worker each, and the first another one, and the launcher.
const (
	partitionHosts   = 4
	partitionWorkers = partitionHosts + 1
)

// workersOn counts those of some hosts.
func workersOn(hosts []int) int {
	if slices.Contains(hosts, 0) {
		return len(hosts) + 1
	}
	return len(hosts)
}

func drawPartition(seed uint64) (p partition) {
	draw := rand.New(rand.NewPCG(seed, 0))
	exact := slices.DeleteFunc(slices.Clone(chaosJobs), func(j chaosJob) bool { return !j.exact })
	p.job = exact[draw.IntN(len(exact))]
	quorum := []int{0} // the hosts that keep the run
	if draw.IntN(3) > 0 {
		p.nodes = draw.Perm(partitionHosts)[:3]
		quorum = p.nodes
	}
	sides := 1 + draw.IntN(1<<partitionHosts-2) // neither is empty
	for h := range partitionHosts {
		if sides>>h&1 == 0 {
			p.near = append(p.near, h)
		} else {
			p.far = append(p.far, h)
		}
	}
	keeps := 0
	for _, h := range quorum {
		if slices.Contains(p.near, h) {
			keeps++
		}
	}
	if keeps <= len(quorum)/2 {
		p.near, p.far = p.far, p.near
	}
	p.fewest, p.after = 1+draw.IntN(4), 50+draw.IntN(450)
	p.mended = draw.IntN(3) > 0 || workersOn(p.near) < p.fewest
	return p
}

func (p partition) String() string {
	keeps, ends := "one server, on host 0", "mended when those there have given up"
	if p.nodes != nil {
		keeps = fmt.Sprintf("servers on hosts %v", p.nodes)
	}
	if p.mended {
		ends = "mended soon"
	}
	return fmt.Sprintf("%s, %s, at least %d workers; hosts %v (%d workers) cut off after step %d, %s", p.job.name, keeps, p.fewest, p.far, workersOn(p.far), p.after, ends)
}

// partitionWorld makes the hosts, and starts the servers.
func partitionWorld(t *testing.T, p partition) *world {
	w := &world{name: "partition", net: newNetwork(t, partitionHosts), joins: []int{1, 2, 3}}
	w.fresh = []string{"--join", "3", "--listen", w.net.addr(0) + ":7443"}
	if p.nodes == nil {
		return w
	}
	at := make([]string, 6)
	for i, h := range p.nodes {
		at[i], at[3+i] = w.net.addr(h)+":4222", w.net.addr(h)+":6222"
	}
	w.nodes = servers(t, at, func(dir, name, addr, route string, peers []string) []string {
		host := p.nodes[name[0]-'a']
		return w.net.on(host, append(coveyServe(dir, name, addr, route, peers), w.net.credentials(host)...)...)
	})
	w.fresh = []string{"--join", "3", "--nats", addrsOf(w.nodes)}
	return w
}

// The network of a run is cut in two, once, anywhere. Whoever does not reach most of the servers stops, and says so when the time of
// grace is over; the others go on if they are enough, and wait if not. There is one generation of each number, no step is done twice,
// and the run ends with the weights of the one whose network was whole.
func TestPartitions(t *testing.T) {
	n, first := countOf(t, "COVEY_PARTITIONS", 3), seedFrom(t, "COVEY_PARTITIONS_SEED")
	rows := map[string]*partitionRow{}
	began := time.Now()
	for i := range n {
		seed := first + uint64(i)
		p := drawPartition(seed)
		row := rows[p.kind()]
		if row == nil {
			row = &partitionRow{}
			rows[p.kind()] = row
		}
		row.runs++
		if !t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			r := newRig(t, partitionWorld(t, p))
			t.Cleanup(func() {
				t.Logf("seed %d: %v", seed, p)
				if t.Failed() {
					t.Log(r.all())
				}
			})
			r.partition(p, row)
			if !t.Failed() {
				r.verdict(p.job, !slices.Contains(p.far, 0)) // who writes is on host 0
			}
		}) {
			row.failed++
		}
	}
	fmt.Printf("\n`COVEY_PARTITIONS=%d COVEY_PARTITIONS_SEED=%d make chaos`, %s, in %v\n\n", n, first, setting(), time.Since(began).Round(time.Second))
	fmt.Printf("| the network is cut in two | runs | failed | the side with the quorum goes on after: median | longest |\n|---|---|---|---|---|\n")
	for _, kind := range slices.Sorted(maps.Keys(rows)) {
		row := rows[kind]
		fmt.Printf("| %s | %d | %d | %s | %s |\n", kind, row.runs, row.failed, middle(row.wentOn), longest(row.wentOn))
	}
}

// partitionRow is what partitions of a kind came to.
type partitionRow struct {
	runs, failed int
	wentOn       []time.Duration // from the cut to a new generation on the side with the quorum
}

// kind is what partitions are told apart by.
func (p partition) kind() string {
	keeps, ends := "one server", "the other side is taken back"
	if p.nodes != nil {
		keeps = "three servers"
	}
	switch {
	case workersOn(p.near) < p.fewest:
		ends = "the side with the quorum is too small"
	case !p.mended:
		ends = "the other side gives up"
	}
	return keeps + ", " + ends
}

// partition trains, cuts the network and mends it, and holds what must be true meanwhile.
func (r *rig) partition(p partition, row *partitionRow) {
	t := r.t
	t.Helper()
	grace := 30 * time.Second
	if !p.mended {
		grace = 20 * time.Second // several times what servers need to find another leader
	}
	r.begin(chaosArgs(p.job, r.folder, partitionWorkers, "--min-workers", strconv.Itoa(p.fewest), "--max-workers", "8",
		"--orphan-grace", grace.String(), "--wait", "1m")...)
	end := time.Now().Add(chaosLimit)
	if !r.until(end, func() bool { return r.step() >= p.after }) {
		t.Fatalf("stuck at step %d", r.step())
	}
	r.w.net.cut(p.far...)
	from := time.Now()
	began := func(hosts []int) (all []seat) { // in this time
		for _, h := range hosts {
			all = append(all, slices.DeleteFunc(seatsOf(r.said(h)), func(s seat) bool { return s.Generation == 1 })...)
		}
		return all
	}
	if enough := workersOn(p.near); enough >= p.fewest {
		if !r.until(time.Now().Add(40*time.Second), func() bool { return len(began(p.near)) >= p.fewest }) {
			t.Fatalf("%d workers do not go on, who are enough", enough)
		}
		row.wentOn = append(row.wentOn, time.Since(from))
		for _, s := range began(p.near) {
			if s.Workers > enough || s.Workers < p.fewest {
				t.Errorf("generation %d has %d workers", s.Generation, s.Workers)
			}
		}
	} else {
		r.until(time.Now().Add(chaosDeadline+4*time.Second), func() bool { return len(began(p.near)) > 0 })
		if some := began(p.near); len(some) > 0 {
			t.Errorf("there are %d workers, and a generation began: %+v", enough, some[0])
		}
	}
	if !p.mended {
		r.orphans(p)
	}
	if some := began(p.far); len(some) > 0 {
		t.Errorf("cut off from the servers, a generation began: %+v", some[0])
	}
	r.w.net.mend()
	over := func() bool { return !r.launcher.alive() }
	if !p.mended && slices.Contains(p.far, 0) { // who was cut off with the launcher resumes the run, and does so again as long as the servers have not met
		for unmet := 2; unmet == 2 && time.Now().Before(end); unmet = r.launcher.ProcessState.ExitCode() {
			r.launch("train", "--resume", r.folder)
			if !r.until(end, over) {
				break
			}
		}
	}
	if !r.until(end, over) {
		r.stacks()
		t.Fatalf("not over after %v, at step %d", chaosLimit, r.step())
	}
}

// orphans waits until those who are cut off have given up, and looks at how.
func (r *rig) orphans(p partition) {
	r.t.Helper()
	var left []*process
	r.until(time.Now().Add(time.Minute), func() bool {
		left = slices.DeleteFunc(append(slices.Clone(r.joined), r.launcher), func(c *process) bool { return !c.alive() || !slices.Contains(p.far, c.host) })
		return len(left) == 0
	})
	for _, c := range left {
		r.t.Errorf("host %d is cut off, and its %s is still there", c.host, filepath.Base(c.Path))
	}
	for _, h := range p.far {
		if !strings.Contains(r.said(h), "the run's server has been out of reach for ") {
			r.t.Errorf("host %d is cut off, and does not say so:\n%s", h, r.said(h))
		}
	}
}
