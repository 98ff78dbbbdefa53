package ps

import (
	"errors"
	"fmt"
	"strings"

	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/reduce"
	"github.com/covey-ml/covey/spec"
)

// The modes: what a worker waits for.
const (
	BSP      = "bsp"      // everybody's push of a step, each time: the bits of an all-reduce
	SSP      = "ssp"      // nobody falls behind by more than a bound
	GSSP     = "gssp"     // the same among workers of like speed, nothing between these groups
	Backup   = "backup"   // all but a few pushes of a step; those that come later are thrown away
	Async    = "async"    // nothing
	Downpour = "downpour" // nothing; pushes and fetches every so many steps
	DC       = "dc"       // nothing; a late gradient is corrected for what happened meanwhile
)

// Who computes which microshards.
const (
	Static  = "static"  // each worker its own
	Dynamic = "dynamic" // who is free the next one
)

// Choices lists the modes, with what a worker waits for and the parameters of each.
func Choices() []optim.Choice {
	return []optim.Choice{
		{Name: BSP, Help: "the pushes of all: the bits of allreduce; deal=static|dynamic (dynamic: microshards go to who is free)"},
		{Name: SSP, Help: "nobody, until it is staleness=4 steps ahead of another"},
		{Name: GSSP, Help: "the same among workers of like speed, whose steps take no more than ratio=2 times as long; staleness=4"},
		{Name: Backup, Help: "all pushes of a step but spare=1, which are thrown away"},
		{Name: Async, Help: "nothing; each push is a step, damp=true divides its rate by how late it is"},
		{Name: Downpour, Help: "nothing; it pushes every push=4 and fetches every fetch=4 steps"},
		{Name: DC, Help: "nothing; late gradients are corrected with the weight lambda=0.04"},
	}
}

// Modes lists the modes' names.
func Modes() (names []string) {
	for _, c := range Choices() {
		names = append(names, c.Name)
	}
	return names
}

// Config is a parameter server with its parameters. Parse fills in a mode's defaults; a field that a mode does not know is
// zero.
type Config struct {
	Servers   int
	Mode      string
	Staleness int     // of ssp and gssp: no worker starts a step before all have finished the one that lies Staleness+1 before it
	Spare     int     // of backup: pushes of a step that need not come
	Fetch     int     // of downpour: steps from one fetch of the parameters to the next
	Push      int     // of downpour: steps whose gradients go in one push
	Lambda    float64 // of dc: the weight of the correction
	Ratio     float64 // of gssp: workers whose steps take no more than so many times as long as their group's fastest are alike
	Deal      bool    // of bsp: microshards are handed out one by one, so that a slow worker gets fewer
	Guard     string  // of the same modes: what is done about a loss that does not fall but rises
	Damp      bool    // of modes that apply pushes one by one: the rate is divided by 1 and the push's staleness

	// Copies is on how many servers each range is, so that all but one of these may be lost; 0: on two where there are as many and a run
	// may lose ranks, else on one.
	Copies int
	Pull   string // by which compressor parameters are pulled, as reduce.ParseShadow reads it; empty: exactly

	// Budget is how much memory a server may take for rows of tables, and Spill the folder for what is over that; see
	// table.Config.
	Budget spec.Bytes
	Spill  string
}

// most bounds whole-number parameters: a typing error, not a plan.
const most = 1 << 20

// Parse reads a parameter server as a job writes it: ps:servers=2,mode=ssp,staleness=4.
func Parse(s *spec.Spec) (Config, error) {
	c := Config{Servers: s.Int("servers", 1), Mode: s.Word("mode", BSP, Modes()...)}
	switch c.Mode {
	case BSP:
		c.Deal = s.Word("deal", Static, Static, Dynamic) == Dynamic
	case SSP, GSSP:
		c.Staleness = s.Int("staleness", 4)
		if c.Mode == GSSP {
			c.Ratio = s.Float("ratio", 2)
		}
	case Backup:
		c.Spare = s.Int("spare", 1)
	case Downpour:
		c.Fetch, c.Push = s.Int("fetch", 4), s.Int("push", 4)
	case DC:
		c.Lambda = s.Float("lambda", 0.04)
	}
	if !c.Held() && c.Mode != Backup {
		c.Damp = s.Bool("damp", false)
		c.Guard = s.Word("guard", GuardStop, GuardStop, GuardTighten, GuardOff)
	}
	c.Copies = s.Int("copies", 0)
	c.Pull = s.Text("pull", "")
	c.Budget, c.Spill = s.Bytes("budget", 0), s.Text("spill", "")
	if err := s.Done(); err != nil {
		return c, err
	}
	return c, c.check()
}

// Held tells whether pushes are held until all of a step are there, and then applied as one canonical sum.
func (c Config) Held() bool { return c.Mode == BSP || c.Mode == SSP && c.Staleness == 0 }

// survives tells whether a run goes on when ranks are lost: whether it is known by microshard what was added.
func (c Config) survives() bool { return !c.Deal && c.Mode != Backup }

// Outlives says why a run cannot go on when ranks are lost; nil: it can.
func (c Config) Outlives() error {
	switch {
	case !c.survives():
		return fmt.Errorf("ps: with mode=%s or deal=%s a run cannot go on when workers or servers are lost: take %s, %s or %s, or let none be lost", Backup, Dynamic, BSP, SSP, Async)
	case c.Pull != "":
		return errors.New("ps: with pull= a run cannot go on when workers or servers are lost, since of what workers have only their servers know: leave it out, or let none be lost")
	}
	return nil
}

// renews tells whether workers that have met take the parameters, as they then are; else they have them.
func (c Config) renews() bool { return !c.Held() || c.Pull != "" }

func (c Config) check() error {
	bad := func(format string, args ...any) error { return fmt.Errorf("ps: "+format, args...) }
	if c.Pull != "" {
		if c.Deal {
			return bad("with deal=dynamic workers pull parameters exactly: leave out pull=%s", c.Pull)
		}
		if _, err := reduce.ParseShadow(c.Pull); err != nil {
			return bad("pull=%s: %w", c.Pull, err)
		}
	}
	switch {
	case c.Servers < 1 || c.Servers > most:
		return bad("%d servers, expected 1 or more", c.Servers)
	case c.Staleness < 0 || c.Staleness > most:
		return bad("staleness is %d, expected 0 to %d steps", c.Staleness, most)
	case c.Mode == Backup && (c.Spare < 1 || c.Spare > most):
		return bad("spare is %d, expected 1 or more pushes that a step can do without", c.Spare)
	case c.Mode == Downpour && (c.Fetch < 1 || c.Push < 1 || max(c.Fetch, c.Push) > most):
		return bad("fetch is %d and push %d, expected 1 to %d steps", c.Fetch, c.Push, most)
	case c.Copies < 0 || c.Copies > c.Servers:
		return bad("copies is %d, expected 1 to %d: each is on a server of its own, of %d", c.Copies, c.Servers, c.Servers)
	case c.Copies > 1 && !c.survives():
		return bad("copies go with modes %s, without deal=dynamic", strings.Join([]string{BSP, SSP, GSSP, Async, Downpour, DC}, ", "))
	case !(c.Lambda >= 0 && c.Lambda <= 1e6):
		return bad("lambda is %v, expected 0 to 1e6", c.Lambda)
	case c.Spill != "" && c.Budget == 0:
		return bad("rows are spilled to %s when they are over a budget, and there is none: give budget=1GiB", c.Spill)
	case c.Mode == GSSP && !(c.Ratio >= 1 && c.Ratio <= 1e6):
		return bad("ratio is %v, expected 1 to 1e6", c.Ratio)
	}
	return nil
}

// String writes the configuration so that Parse reads it back.
func (c Config) String() string {
	var b strings.Builder
	b.WriteString("ps:")
	if c.Servers > 0 {
		fmt.Fprintf(&b, "servers=%d,", c.Servers)
	}
	b.WriteString("mode=" + c.Mode)
	put := func(key string, v any) { fmt.Fprintf(&b, ",%s=%v", key, v) }
	switch c.Mode {
	case SSP, GSSP:
		put("staleness", c.Staleness)
		if c.Mode == GSSP {
			put("ratio", c.Ratio)
		}
	case Backup:
		put("spare", c.Spare)
	case Downpour:
		put("fetch", c.Fetch)
		put("push", c.Push)
	case DC:
		put("lambda", c.Lambda)
	}
	if c.Deal {
		put("deal", Dynamic)
	}
	if c.Damp {
		put("damp", true)
	}
	if c.Guard != "" && c.Guard != GuardStop {
		put("guard", c.Guard)
	}
	if c.Copies > 0 {
		put("copies", c.Copies)
	}
	if c.Pull != "" {
		put("pull", c.Pull)
	}
	if c.Budget > 0 {
		put("budget", c.Budget)
	}
	if c.Spill != "" {
		put("spill", c.Spill)
	}
	return b.String()
}

// periods is in which steps a worker pushes, and in which it fetches: those whose number, from 1, they divide.
func (c Config) periods() (push, fetch int) { return max(1, c.Push), max(1, c.Fetch) }

// Fits refuses a number of workers, servers not counted, that the mode cannot work with.
func (c Config) Fits(workers int) error {
	if c.Mode == Backup && c.Spare >= workers {
		return fmt.Errorf("ps: a step of %d workers cannot do without %d of their pushes: at most spare=%d", workers, c.Spare, workers-1)
	}
	return nil
}
