package cluster

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Member is what one worker says of itself in the store, and says anew while it lives. Workers write their own records and
// nobody else's, but for the launcher, which writes how a process of its own ended.
type Member struct {
	ID   string `json:"id"`             // drawn when it started
	Name string `json:"name"`           // host and process, for people
	Host string `json:"host"`           // see HostID
	Want *int   `json:"want,omitempty"` // the rank that it was started as
	// Writer says that it can write the run folder, which rank 0 does.
	Writer bool `json:"writer,omitempty"`

	State State  `json:"state"`
	Addr  string `json:"addr,omitempty"` // where it listens for its peers of the next generation, once it is Ready
	// Was is the generation whose state it has; 0: it is new, or what it had is not of use any more.
	Was  uint64 `json:"was,omitempty"`
	Lost []Loss `json:"lost,omitempty"` // whom it lost in that generation, once it is Ready

	Error string `json:"error,omitempty"` // why it ended
	Code  int    `json:"code,omitempty"`  // its exit code
	Beat  uint64 `json:"beat"`            // grows
	PID   int    `json:"pid,omitempty"`   // its process on its host
	Space string `json:"space,omitempty"` // see pidSpace
}

// State is where a member stands.
type State string

// The states of a member.
const (
	Ready   State = "ready"   // it waits for the next generation
	Busy    State = "busy"    // it trains
	Leaving State = "leaving" // it trains, and would rather not
	Ended   State = "ended"
)

// Loss is a peer that a member does not reach any more.
type Loss struct {
	ID      string `json:"id"`
	Stalled bool   `json:"stalled,omitempty"` // it did not answer in time; else its connection is gone
	Spare   bool   `json:"spare,omitempty"`   // it is well, and there are enough without it
	How     string `json:"how,omitempty"`     // in words
}

// Seat is a member's place in a generation.
type Seat struct {
	ID   string `json:"id"`
	Addr string `json:"addr"`
	Host string `json:"host"`
	Name string `json:"name"`
	Kept bool   `json:"kept,omitempty"` // it brings the state of the generation before
	// Local says that it was started as a rank, by the launcher.
	Local bool `json:"local,omitempty"`
}

// Generation is a fixed set of workers that train together, until one is lost or others join. There is one of each number:
// only who swaps the record of the one before for it has formed it.
type Generation struct {
	Number uint64 `json:"number"`
	Seats  []Seat `json:"seats"`  // by rank
	Secret string `json:"secret"` // hex; peers prove to each other that they hold it
	Why    string `json:"why"`    // in words
	// Gone are the members of the generation before that have no seat in this one, and why.
	Gone []Loss `json:"gone,omitempty"`
}

// Rank is the seat of a member, -1 when it has none.
func (g *Generation) Rank(id string) int {
	for r, s := range g.Seats {
		if s.ID == id {
			return r
		}
	}
	return -1
}

// check refuses what no decision makes.
func (g *Generation) check() error {
	seen := map[string]bool{}
	for _, s := range g.Seats {
		if s.ID == "" || seen[s.ID] {
			return fmt.Errorf("cluster: generation %d has the member %q twice, or without a name", g.Number, s.ID)
		}
		seen[s.ID] = true
	}
	if g.Number == 0 || len(g.Seats) == 0 || len(g.Seats) > mostSeats {
		return fmt.Errorf("cluster: a generation numbered %d of %d members", g.Number, len(g.Seats))
	}
	return nil
}

// mostSeats bounds what is read from a store.
const mostSeats = 1 << 16

// Limits say how many workers a run may have, and how long they are waited for.
type Limits struct {
	Min  int           `json:"min"`  // fewer do not train
	Max  int           `json:"max"`  // more are not let in
	Meet time.Duration `json:"meet"` // for the first generation to have as many as it should
	Wait time.Duration `json:"wait"` // for a later one to have Min
	// Patience is how long a member of the generation before is waited for that nobody has lost: it may be amid a step.
	Patience time.Duration `json:"patience"`
}

// Check refuses what does not go together.
func (l Limits) Check() error {
	switch {
	case l.Min < 1:
		return errors.New("a run needs at least one worker")
	case l.Max < l.Min:
		return fmt.Errorf("at most %d workers and at least %d", l.Max, l.Min)
	case l.Meet <= 0 || l.Wait <= 0 || l.Patience <= 0:
		return errors.New("cluster: limits without times")
	}
	return nil
}

// workers counts them for people.
func workers(n int) string {
	if n == 1 {
		return "1 worker is"
	}
	return fmt.Sprintf("%d workers are", n)
}

// names lists members for people.
func names(all []string) string {
	const most = 4
	if len(all) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), len(all)-most)
	}
	return strings.Join(all, ", ")
}
