//go:build integration

package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// The things that happen.
const (
	kill     = "kill -9 of a worker"
	freeze   = "SIGSTOP of a worker, longer than the deadline"
	enter    = "a worker joins"
	leave    = "a worker is told to leave"
	relaunch = "the launcher is killed, and another takes its place"
	topple   = "a NATS server is killed, and started again"
	cut      = "the link of a host is cut, and mended"
)

// chaosEvent is something that happens after a step.
type chaosEvent struct {
	step int
	what string
}

func (e chaosEvent) String() string { return fmt.Sprintf("after step %d: %s", e.step, e.what) }

// drawEvents draws what happens to a run, in order.
func drawEvents(draw *rand.Rand, kinds []string) (all []chaosEvent) {
	for range 3 + draw.IntN(4) {
		all = append(all, chaosEvent{50 + draw.IntN(chaosSteps-400), kinds[draw.IntN(len(kinds))]})
	}
	slices.SortFunc(all, func(a, b chaosEvent) int { return a.step - b.step })
	return all
}

// happen makes an event come true. It returns what did happen: a worker joins where another thing would leave nobody who has the
// run's state and writes its folder, and where a cut link, or a NATS server, has not come back from the last time.
func (r *rig) happen(draw *rand.Rand, what string) string {
	r.t.Helper()
	victims := r.victims()
	switch what {
	case kill, freeze, leave:
		if len(victims) == 0 {
			what = enter
		}
	case cut:
		if len(r.out) > 0 || len(victims) == 0 {
			what = enter
		}
	case topple:
		if slices.ContainsFunc(r.w.nodes, func(n *node) bool { return n.cmd == nil }) {
			what = enter
		}
	}
	switch what {
	case kill:
		syscall.Kill(victims[draw.IntN(len(victims))].pid, syscall.SIGKILL)
	case freeze:
		r.freeze(victims[draw.IntN(len(victims))].pid)
	case leave:
		syscall.Kill(victims[draw.IntN(len(victims))].pid, syscall.SIGTERM)
	case enter:
		r.join(draw.IntN(r.w.hosts()))
	case relaunch:
		r.launcher.Process.Kill()
		<-r.launcher.ended
		r.launch("train", "--resume", r.folder)
	case topple:
		r.topple(draw)
	case cut:
		all := r.living()
		r.cut(all[draw.IntN(len(all))].host, time.Duration(1+draw.IntN(5))*time.Second)
	}
	return what
}

// victims are the workers to which something may happen: others remain, and of them one that writes the run folder.
func (r *rig) victims() []member {
	all := r.living()
	if len(all) < 3 || r.size(chaosWorkers) < 3 {
		return nil
	}
	writers := 0
	for _, m := range all {
		if m.writes {
			writers++
		}
	}
	return slices.DeleteFunc(all, func(m member) bool { return m.writes && writers == 1 })
}

// freeze has a worker stand still for longer than the others wait. It finds itself left behind, and comes back as a newcomer.
func (r *rig) freeze(pid int) {
	syscall.Kill(pid, syscall.SIGSTOP)
	r.away[pid], r.frozen[pid] = true, true
	r.after(2*chaosDeadline, func() {
		if runs(pid) {
			syscall.Kill(pid, syscall.SIGCONT)
		}
		delete(r.frozen, pid)
	})
}

// topple kills one of three NATS servers that all are up to date, every other time the leader, and starts it again later.
func (r *rig) topple(draw *rand.Rand) {
	leader := bucketOf(r.t, r.w.nodes, len(r.w.nodes))
	leads := draw.IntN(2) == 0
	all := slices.DeleteFunc(slices.Clone(r.w.nodes), func(n *node) bool { return (n.name == leader) != leads })
	n := all[draw.IntN(len(all))]
	n.kill()
	r.after(time.Duration(500+draw.IntN(2500))*time.Millisecond, func() { n.start(r.t) })
}

// cut takes a host off the network for a while, which may be shorter than the deadline, or longer. The run's server is on the first
// host: if that is cut off, it is the others that are.
func (r *rig) cut(host int, d time.Duration) {
	for h := range r.w.hosts() {
		if (h == host) != (host == 0) {
			r.out[h] = true
		}
	}
	for _, m := range r.workers() {
		if r.out[m.host] {
			r.away[m.pid] = true
		}
	}
	r.w.net.cut(host)
	r.after(d, func() {
		r.w.net.mend()
		clear(r.out)
	})
}
