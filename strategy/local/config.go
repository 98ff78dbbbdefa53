package local

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/covey-ml/covey/optim"
	"github.com/covey-ml/covey/spec"
)

// The methods by name.
const (
	Local        = "local"
	PostLocal    = "postlocal"
	Hierarchical = "hierarchical"
	FedProx      = "fedprox"
	Scaffold     = "scaffold"
	EASGD        = "easgd"
	BMUF         = "bmuf"
	DiLoCo       = "diloco"
)

// Names lists the methods.
func Names() []string {
	return []string{Local, PostLocal, Hierarchical, FedProx, Scaffold, EASGD, BMUF, DiLoCo}
}

// The ways to change the period while training.
const (
	ByLoss       = "loss"
	ByDivergence = "divergence"
)

// Config is a method with its parameters. Parse fills in a method's defaults; a field that a method does not know is zero.
type Config struct {
	Method string
	K      int    // steps of a replica from one exchange to the next, 1 or more
	Period string // how K changes: not (empty), ByLoss or ByDivergence; K is then the first

	Start  int     // of postlocal: steps at the beginning after each of which replicas talk
	Groups int     // of hierarchical: neighbouring replicas form so many
	Outer  int     // of hierarchical: periods of groups between exchanges of all
	Mu     float64 // of fedprox: each local gradient has Mu*(x - x of the round's start) added
	Option int     // of scaffold: how a control variate is renewed, 1 or 2 as in the paper
	Rate   float64 // of scaffold, bmuf and diloco: of the move that all make together
	// Momentum of bmuf and diloco: of that move, from 0 to below 1. Of bmuf, below 0: 1 - 1/replicas, with which a move counts
	// as much as all replicas' moves together (Chen and Huo, section 4).
	Momentum float64
	Nesterov bool // of bmuf: replicas start from where the momentum is going to take them
	// Of easgd: Beta is the part of the way to the replicas' mean that the center goes, above 0 to 1, and Alpha that to the
	// center that a replica goes: Beta divided by the replicas, unless it is given in Beta's place (then that is 0).
	Alpha, Beta float64

	Fragments int // whole segments form so many parts of the parameters, which are exchanged in turn; 1: everything at once
	Overlap   int // steps after which what was exchanged is put to use, training going on meanwhile; 0: at once
	// Mix is the part that a replica keeps of its own parameters when an overlapped exchange is put to use, from 0 to
	// below 1. Below 0: the replica takes the common ones and adds what it has moved since the exchange began.
	Mix float64
}

// most bounds whole-number parameters: a typing error, not a plan.
const most = 1 << 20

// Parse reads a method as a job writes it: local:K=16, diloco:K=64,rate=0.7,fragments=4,overlap=5.
func Parse(s *spec.Spec) (Config, error) {
	c := Config{Method: s.Name, K: s.Int("K", 16), Fragments: 1, Mix: -1}
	shared := map[string]bool{} // what the method can be combined with
	switch c.Method {
	case Local:
		shared = map[string]bool{"period": true, "fragments": true}
	case PostLocal:
		c.Start = s.Int("start", 0)
	case Hierarchical:
		c.Groups, c.Outer = s.Int("groups", 2), s.Int("outer", 4)
	case FedProx:
		c.Mu = s.Float("mu", 0.01)
		shared = map[string]bool{"period": true, "fragments": true}
	case Scaffold:
		c.Option, c.Rate = s.Int("option", 2), s.Float("rate", 1)
		shared = map[string]bool{"period": true}
	case EASGD:
		if c.Alpha = s.Float("alpha", 0); !s.Given("alpha") {
			c.Beta = s.Float("beta", 0.9)
		}
	case BMUF:
		c.Momentum, c.Rate, c.Nesterov = s.Float("momentum", -1), s.Float("rate", 1), s.Bool("nesterov", false)
		shared = map[string]bool{"period": true, "fragments": true}
	case DiLoCo:
		c.Rate, c.Momentum = s.Float("rate", 0.7), s.Float("momentum", 0.9)
		shared = map[string]bool{"period": true, "fragments": true}
	default:
		return c, spec.OneOf("method", c.Method, Names()...)
	}
	for _, key := range []string{"period", "fragments", "overlap", "alpha"} {
		if c.Method == EASGD && key == "alpha" {
			continue
		}
		if s.Given(key) && !shared[key] && !(shared["fragments"] && key != "period") {
			return c, alone(c.Method, key)
		}
	}
	if shared["period"] {
		c.Period = s.Word("period", "", ByLoss, ByDivergence)
	}
	if shared["fragments"] {
		c.Fragments, c.Overlap, c.Mix = s.Int("fragments", 1), s.Int("overlap", 0), s.Float("alpha", -1)
	}
	if err := s.Done(); err != nil {
		return c, err
	}
	return c, c.check()
}

// alone is why a method does not go with one of the parameters that others share.
func alone(method, key string) error {
	why := map[string]string{
		PostLocal:    "its period changes at a step of its own",
		Hierarchical: "its exchanges are nested",
		Scaffold:     "control variates are worked out from what a whole round moved all parameters",
		EASGD:        "its replicas are drawn to the center at the moment of the exchange",
	}[method]
	use := "use diloco, local, fedprox or bmuf"
	if key == "period" {
		use = "use local, fedprox, scaffold, bmuf or diloco"
	}
	return fmt.Errorf("%s does not go with %s: %s; leave it out, or %s", method, key, why, use)
}

// check refuses what is out of range or does not go together.
func (c Config) check() error {
	bad := func(format string, args ...any) error { return fmt.Errorf(c.Method+": "+format, args...) }
	switch {
	case c.K < 1 || c.K > most:
		return bad("K is %d, expected 1 to %d steps", c.K, most)
	case c.Start < 0:
		return bad("start is %d, expected the number of a step", c.Start)
	case c.Method == Hierarchical && (c.Groups < 1 || c.Outer < 1 || c.Outer > most):
		return bad("groups is %d and outer %d, expected 1 or more", c.Groups, c.Outer)
	case !(c.Mu >= 0 && c.Mu <= 1e6):
		return bad("mu is %v, expected 0 to 1e6", c.Mu)
	case c.Method == Scaffold && c.Option != 1 && c.Option != 2:
		return bad("option is %d, expected 1 or 2", c.Option)
	case c.Rate < 0 || c.Rate > 100 || c.Rate == 0 && slices.Contains([]string{Scaffold, BMUF, DiLoCo}, c.Method):
		return bad("rate is %v, expected above 0 and at most 100", c.Rate)
	case !(c.Momentum >= 0 && float32(c.Momentum) < 1) && !(c.Method == BMUF && c.Momentum == -1):
		return bad("momentum is %v, expected 0 to below 1", c.Momentum)
	case c.Method == EASGD && !(max(c.Beta, c.Alpha) > 0 && max(c.Beta, c.Alpha) <= 1 && min(c.Beta, c.Alpha) >= 0):
		return bad("beta is %v and alpha %v, expected one of them, above 0 to 1", c.Beta, c.Alpha)
	case c.Fragments < 1 || c.Fragments > c.K:
		return bad("%d fragments in a period of %d steps: expected 1 to %d, one exchange a step", c.Fragments, c.K, c.K)
	case c.Overlap < 0 || c.Overlap > 0 && c.Overlap >= c.K/c.Fragments:
		return bad("overlap is %d, and an exchange begins every %d steps: expected 0 to %d, so that one ends before the next", c.Overlap, c.K/c.Fragments, c.K/c.Fragments-1)
	case c.Mix >= 1 || c.Mix != c.Mix:
		return bad("alpha is %v, expected 0 to below 1: at 1 replicas would ignore each other", c.Mix)
	case c.Mix >= 0 && c.Overlap == 0:
		return bad("alpha says what a replica keeps when an overlapped exchange ends: give overlap too, or leave it out")
	case c.Period != "" && (c.Fragments > 1 || c.Overlap > 0):
		return bad("a period that changes does not go with fragments or overlap, whose exchanges have fixed distances: leave one of them out")
	}
	return nil
}

// String writes the method so that Parse reads it back: what decides its bits.
func (c Config) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:K=%d", c.Method, c.K)
	put := func(key string, v any) { fmt.Fprintf(&b, ",%s=%v", key, v) }
	switch c.Method {
	case PostLocal:
		put("start", c.Start)
	case Hierarchical:
		put("groups", c.Groups)
		put("outer", c.Outer)
	case FedProx:
		put("mu", c.Mu)
	case Scaffold:
		put("option", c.Option)
		put("rate", c.Rate)
	case EASGD:
		if c.Alpha > 0 {
			put("alpha", c.Alpha)
		} else {
			put("beta", c.Beta)
		}
	case BMUF:
		if c.Momentum >= 0 {
			put("momentum", c.Momentum)
		}
		put("rate", c.Rate)
		put("nesterov", c.Nesterov)
	case DiLoCo:
		put("rate", c.Rate)
		put("momentum", c.Momentum)
	}
	if c.Period != "" {
		put("period", c.Period)
	}
	if c.Fragments > 1 {
		put("fragments", c.Fragments)
	}
	if c.Overlap > 0 {
		put("overlap", c.Overlap)
	}
	if c.Mix >= 0 {
		put("alpha", c.Mix)
	}
	return b.String()
}

// Inner refuses an inner optimizer that the method cannot work with. s is not changed.
func (c Config) Inner(s *spec.Spec) error {
	if c.Method != Scaffold || s.Name == "sgd" && len(s.Args) == 0 && len(s.Opts) == 0 {
		return nil
	}
	return fmt.Errorf("scaffold reads a replica's mean gradient off how far plain sgd moved it, and %s moves it otherwise: use sgd, without parameters", s)
}

// Fits refuses a number of replicas that the method cannot work with.
func (c Config) Fits(replicas int) error {
	if c.Groups > replicas {
		return fmt.Errorf("hierarchical: %d groups of %d replicas: at most one a replica (microshard)", c.Groups, replicas)
	}
	if c.Alpha*float64(replicas) > 1 {
		return fmt.Errorf("easgd: alpha is %v, and with %d replicas the center swings farther than to their mean: at most %.3g", c.Alpha, replicas, 1/float64(replicas))
	}
	return nil
}

// Elastic is easgd's alpha among so many replicas: the part of the way to the center that a replica goes.
func (c Config) Elastic(replicas int) float64 {
	if c.Alpha > 0 {
		return c.Alpha
	}
	return c.Beta / float64(replicas)
}

// Block is bmuf's and diloco's momentum among so many replicas.
func (c Config) Block(replicas int) float64 {
	if c.Momentum < 0 {
		return 1 - 1/float64(replicas)
	}
	return c.Momentum
}

var errNoOptimizer = errors.New("local: the worker has no NewOptimizer")

// optimizers makes one for each of n replicas, and one more that shows what state they have.
func optimizers(make func() (optim.Optimizer, error), n int) ([]optim.Optimizer, error) {
	if make == nil {
		return nil, errNoOptimizer
	}
	all := []optim.Optimizer{}
	for range n + 1 {
		o, err := make()
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}
