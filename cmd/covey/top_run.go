package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/ops"
	"github.com/covey-ml/covey/ops/top"
	"github.com/covey-ml/covey/spec"
)

// reachFor is how long a run's server is looked for.
const reachFor = 5 * time.Second

// open reaches the run of a folder, or of a server.
func (o *topOptions) open(ctx context.Context, where string) (cluster.Store, error) {
	if st, err := os.Stat(where); err != nil || !st.IsDir() {
		if _, _, bad := net.SplitHostPort(where); bad != nil && !strings.Contains(where, ",") && errors.Is(err, os.ErrNotExist) {
			if near := spec.NearestPath(where); near != "" {
				return nil, usagef("%s is not there: did you mean %s?", where, near)
			}
			return nil, usagef("%s is neither a run folder nor the HOST:PORT of a server", where)
		}
		o.run.wait = reachFor
		return o.run.open(ctx, where)
	}
	at, err := loadMeeting(where)
	if errors.Is(err, os.ErrNotExist) {
		return nil, usagef("%s is not the folder of a run that is under way and was started with --min-workers or --max-workers; covey inspect %s shows what it holds", where, where)
	}
	if err != nil {
		return nil, err
	}
	a, err := o.run.reach.access(at.Servers, at.Token)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, reachFor)
	defer cancel()
	store, err := cluster.Open(ctx, a, at.Run, comm.RealClock())
	if err != nil {
		return nil, &usageError{fmt.Errorf("%s: %w", where, err)}
	}
	return store, nil
}

// listenFor is how long covey top --once waits for the workers to say how they are, which they do once a second.
const listenFor = 2500 * time.Millisecond

// attendTop is the source that hears of a run what its launcher hears, until the run is over. Once, it ends when all workers have
// said how they are, or after wait.
func attendTop(ctx context.Context, store cluster.Store, once bool, wait time.Duration, tell func(top.News)) error {
	if once {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	enough := make(chan struct{})
	began := time.Now()
	heard := func(n top.News) {
		n.Before = time.Since(began) < time.Second // all that a store holds comes at once
		tell(n)
	}
	a := &attending{tell: heard, once: once, names: map[string]string{}, silent: map[string]bool{}, end: func() { close(enough) }}
	c, err := cluster.Coordinate(ctx, store, comm.RealClock(), a.hear)
	if err != nil {
		return err
	}
	select {
	case <-enough:
	case <-ctx.Done():
	}
	c.Close()
	if once && len(c.Members()) == 0 {
		return errors.New("that run has no workers yet")
	}
	return nil
}

// attending turns the news of a run into that of covey top. hear is called by one goroutine.
type attending struct {
	tell   func(top.News)
	once   bool
	names  map[string]string // by ID
	silent map[string]bool   // who has a seat and has not said how it is
	formed bool
	over   bool
	ended  bool
	end    func() // called once, when enough has been heard
}

func (a *attending) hear(n cluster.News) {
	switch {
	case n.Joined != nil:
		a.names[n.Joined.ID] = n.Joined.Name
		a.tell(top.News{Joined: &top.Joined{ID: n.Joined.ID, Name: n.Joined.Name}})
	case n.Formed != nil:
		a.form(n.Formed)
	case n.Event != nil:
		a.said(n.Event)
	case n.Ended != nil:
		delete(a.silent, n.Ended.ID)
		l := &top.Lost{ID: n.Ended.ID, Why: n.Ended.Error, Well: n.Ended.Code == exitDone && n.Ended.Error == ""}
		if l.Why == "" && !l.Well {
			l.Why = fmt.Sprintf("it has ended with exit code %d", n.Ended.Code)
		}
		a.tell(top.News{Lost: l})
	case n.Report != nil:
		var e struct{ Stopped bool }
		how := "the run is done"
		if json.Unmarshal(n.Report, &e) == nil && e.Stopped {
			how = "the run was stopped"
		}
		a.over = true
		a.tell(top.News{Over: how})
	}
	if all := a.once && a.formed && len(a.silent) == 0; !a.ended && (all || a.over) {
		a.ended = true
		a.end()
	}
}

func (a *attending) form(g *cluster.Generation) {
	f := &top.Formed{Number: g.Number, Why: g.Why}
	clear(a.silent)
	for _, s := range g.Seats {
		a.names[s.ID], a.silent[s.ID] = s.Name, true
		f.Seats = append(f.Seats, top.Joined{ID: s.ID, Name: s.Name})
	}
	for _, l := range g.Gone {
		name := a.names[l.ID]
		if name == "" {
			name = l.ID
		}
		f.Gone = append(f.Gone, name+": "+l.How)
	}
	a.formed = true
	a.tell(top.News{Formed: f})
}

// said takes a worker's progress in, if it is a status that a worker may have.
func (a *attending) said(s *cluster.Said) {
	var e struct {
		Status json.RawMessage `json:"status"`
	}
	if json.Unmarshal(s.Event, &e) != nil || len(e.Status) == 0 {
		return
	}
	status, err := ops.ParseStatus(e.Status)
	if err != nil {
		return
	}
	delete(a.silent, s.ID)
	a.tell(top.News{Status: &top.Told{ID: s.ID, Status: status}})
}
