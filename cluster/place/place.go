// Package place tells from a process's environment which launcher started it, and as which of how many.
//
//	p, err := place.Detect(os.Getenv)
//	if p != nil { ... rank p.Rank of p.Size, rank 0 serves at p.Address:p.Port ... }
//
// It knows the tasks of a Slurm step, Open MPI, MPICH and what shares its variables (Intel MPI, MVAPICH), torchrun and all that
// set its variables, and the pods of an Indexed Job as package k8s writes them. Launchers nest: mpirun in a Slurm job sets its own
// variables beside Slurm's, and what counts is who started this very process. So they are asked from the inside out, in the order
// of Launchers, and where the inside cannot be told from the outside and the two disagree, that is an error. COVEY_LAUNCHER names
// the launcher to believe, or none.
package place

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/covey-ml/covey/spec"
)

// The launchers.
const (
	Torchrun   = "torchrun"
	OpenMPI    = "openmpi"
	MPICH      = "mpich"
	Slurm      = "slurm"
	Kubernetes = "kubernetes"
	None       = "none" // for EnvLauncher
)

// Launchers in the order in which they are asked.
func Launchers() []string { return []string{Torchrun, OpenMPI, MPICH, Slurm, Kubernetes} }

// The variables that are our own.
const (
	EnvLauncher = "COVEY_LAUNCHER" // the launcher to believe, or none
	EnvWorkers  = "COVEY_WORKERS"  // in a pod: how many there are
	EnvService  = "COVEY_SERVICE"  // in a pod: the headless service by which they find each other
	EnvJob      = "COVEY_JOB"      // in a pod: the Job's name; without it, what HOSTNAME says
)

// Bounds.
const (
	maxSize   = 1_000_000 // workers, as in a job file
	firstPort = 20_000    // of the ports that are made from a job's id: below what Linux hands out by itself
	ports     = 10_000

	// PodPort is where pod 0 serves: a pod has all ports to itself.
	PodPort = 7000
)

// Place is this process's place among those that a launcher started together.
type Place struct {
	Launcher   string
	Rank, Size int
	LocalRank  int    // among those on this host; 0 when LocalSize is
	LocalSize  int    // how many are on this host; 0 when the launcher does not tell
	Address    string // by which all reach the host of rank 0: a loopback address when all are on one
	Host       string // by which the others reach this host, when the launcher tells; loopback as Address is
	Port       int    // MASTER_PORT, or one made from Job, so that two jobs on a host do not meet
	Job        string // the launcher's name for these processes together; empty when it has none
}

// String says it as the user would.
func (p *Place) String() string {
	s := fmt.Sprintf("%s: rank %d of %d", p.Launcher, p.Rank, p.Size)
	if p.Job != "" {
		s += " of job " + p.Job
	}
	return s
}

// Error is a launcher's environment that does not tell a place.
type Error struct {
	Launcher string // empty: EnvLauncher itself is wrong
	Variable string // what is missing or wrong
	Err      error
}

func (e *Error) Error() string {
	if e.Launcher == "" {
		return e.Variable + " " + e.Err.Error()
	}
	return fmt.Sprintf("%s: %s %v (%s=%s if %[1]s did not start this process)", e.Launcher, e.Variable, e.Err, EnvLauncher, None)
}

func (e *Error) Unwrap() error { return e.Err }

func errorf(variable, format string, args ...any) *Error {
	return &Error{Variable: variable, Err: fmt.Errorf(format, args...)}
}

// claim is what one launcher's variables say.
type claim struct {
	Place
	rankName, sizeName string
	sure               bool   // this launcher has certainly started this process, whatever others say
	fixed              bool   // address and port are not to be asked for elsewhere
	host, hostName     string // where rank 0 is, and the variable that says so
	missing            string // how to tell the address, when neither host nor MASTER_ADDR does
}

type env func(string) string

// Detect returns the place that the environment tells, or nil when no launcher started this process. It is a function of the
// environment alone.
func Detect(get func(string) string) (*Place, error) {
	e := env(get)
	names := Launchers()
	if want := e(EnvLauncher); want != "" {
		if err := spec.OneOf("launcher", want, append(names, None)...); err != nil {
			return nil, errorf(EnvLauncher, "is wrong: %w", err)
		}
		if want == None {
			return nil, nil
		}
		c, err := ask(want, e)
		if err != nil {
			return nil, err
		}
		if c == nil {
			return nil, errorf(EnvLauncher, "%s did not start this process: %s", want, signs[want])
		}
		return c.place(e)
	}
	var inner *claim
	for _, name := range names {
		c, err := ask(name, e)
		switch {
		case err != nil && inner == nil:
			return nil, err
		case err != nil || c == nil:
			continue // what is around the launcher found need not be whole
		case inner == nil:
			inner = c
			if c.sure {
				return c.place(e)
			}
			continue
		case c.Rank == inner.Rank && c.Size == inner.Size:
			if inner.Launcher == Torchrun { // a script that copied this launcher's numbers: it knows more
				return c.place(e)
			}
		case name == Slurm && inner.Launcher != Torchrun, name == Kubernetes:
			// srun started mpirun or its daemons, a pod whatever runs in it: the outside.
		default:
			return nil, errorf(inner.rankName, "is %d of %d, but %s is %d of %d: set %s to the launcher that started this process, %s or %s",
				inner.Rank, inner.Size, c.rankName, c.Rank, c.Size, EnvLauncher, inner.Launcher, name)
		}
	}
	if inner == nil {
		return nil, nil
	}
	return inner.place(e)
}

// ask is what one launcher's variables say, nil when it did not start this process.
func ask(launcher string, e env) (c *claim, err error) {
	switch launcher {
	case Torchrun:
		c, err = fromTorchrun(e)
	case OpenMPI:
		c, err = fromOpenMPI(e)
	case MPICH:
		c, err = fromMPICH(e)
	case Slurm:
		c, err = fromSlurm(e)
	case Kubernetes:
		c, err = fromKubernetes(e)
	}
	return c, of(launcher, err)
}

// of names the launcher in an error.
func of(launcher string, err error) error {
	if e, ok := err.(*Error); ok {
		e.Launcher = launcher
	}
	return err
}

// signs are the variables by which each launcher is known.
var signs = map[string]string{
	Torchrun:   "RANK and WORLD_SIZE are not both set",
	OpenMPI:    "OMPI_COMM_WORLD_RANK is not set",
	MPICH:      "neither PMI_RANK nor PMI_ID is set",
	Slurm:      "it is not a task of a step that srun started (SLURM_STEP_ID)",
	Kubernetes: "JOB_COMPLETION_INDEX and " + EnvWorkers + " are not both set",
}

// place completes a claim: where rank 0 serves.
func (c *claim) place(e env) (*Place, error) {
	p, err := c.complete(e)
	return p, of(c.Launcher, err)
}

func (c *claim) complete(e env) (*Place, error) {
	p := c.Place
	if p.Size < 1 || p.Size > maxSize {
		return nil, errorf(c.sizeName, "is %d, expected 1 to %d", p.Size, maxSize)
	}
	if p.Rank < 0 || p.Rank >= p.Size {
		return nil, errorf(c.rankName, "is %d, expected 0 to %d, as %s is %d", p.Rank, p.Size-1, c.sizeName, p.Size)
	}
	if p.LocalSize == 0 && p.Size == 1 {
		p.LocalSize = 1
	}
	if p.LocalSize == 0 {
		p.LocalRank = 0
	}
	if p.LocalSize < 0 || p.LocalSize > p.Size || p.LocalRank < 0 || p.LocalSize > 0 && p.LocalRank >= p.LocalSize {
		return nil, errorf(c.rankName, "is %d of %d, but locally this is %d of %d", p.Rank, p.Size, p.LocalRank, p.LocalSize)
	}
	if c.fixed {
		return &p, nil
	}
	from := "MASTER_ADDR"
	switch {
	case p.LocalSize == p.Size:
		p.Address, p.Host = "127.0.0.1", "127.0.0.1" // whatever else is said: no certificates are needed for it
	case e("MASTER_ADDR") != "":
		p.Address = e("MASTER_ADDR")
	case c.host != "":
		p.Address, from = c.host, c.hostName
	default:
		return nil, errorf("MASTER_ADDR", "is not set, and %s: set it to the host of rank 0", c.missing)
	}
	if err := checkHost(p.Address); err != nil {
		return nil, errorf(from, "is wrong: %w", err)
	}
	if checkHost(p.Host) != nil {
		p.Host = "" // it is a help, and no more
	}
	if p.Port == 0 {
		p.Port = portOf(p.Job)
		if e("MASTER_PORT") != "" {
			port, err := e.number("MASTER_PORT", 1, 65535)
			if err != nil {
				return nil, err
			}
			p.Port = port
		}
	}
	return &p, nil
}

// portOf spreads jobs over ports. Slurm's numbers count up, and those that are near each other get ports of their own.
func portOf(job string) int {
	if id, step, ok := strings.Cut(job, "."); ok {
		n, err1 := strconv.ParseUint(id, 10, 32)
		m, err2 := strconv.ParseUint(step, 10, 32)
		if err1 == nil && err2 == nil {
			return firstPort + int((n+4099*m)%ports)
		}
	}
	h := fnv.New32a()
	h.Write([]byte(job))
	return firstPort + int(h.Sum32()%ports)
}

// number takes a whole number; the variable must be set.
func (e env) number(name string, least, most int) (int, error) {
	text := e(name)
	if text == "" {
		return 0, errorf(name, "is not set, expected a whole number from %d to %d", least, most)
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, errorf(name, "is %.40q, expected a whole number from %d to %d", text, least, most)
	}
	return n, nil
}

// maybe takes the first of the named numbers that is set, or 0.
func (e env) maybe(least, most int, names ...string) (int, error) {
	for _, name := range names {
		if e(name) != "" {
			return e.number(name, least, most)
		}
	}
	return 0, nil
}

// ranks takes a rank and a size.
func (e env) ranks(c *claim) (err error) {
	if c.Rank, err = e.number(c.rankName, 0, maxSize-1); err != nil {
		return err
	}
	c.Size, err = e.number(c.sizeName, 1, maxSize)
	return err
}

// local takes a local rank and how many there are; both or neither count.
func (e env) local(c *claim, rank, size []string) (err error) {
	if c.LocalRank, err = e.maybe(0, maxSize-1, rank...); err != nil {
		return err
	}
	if !slices.ContainsFunc(rank, func(n string) bool { return e(n) != "" }) {
		return nil
	}
	c.LocalSize, err = e.maybe(1, maxSize, size...)
	return err
}

// first is the first variable that is set.
func (e env) first(names ...string) string {
	for _, name := range names {
		if v := e(name); v != "" {
			return v
		}
	}
	return ""
}

// checkHost holds an address to what can be one: it goes into a dial, a log line, and perhaps a command.
func checkHost(s string) error {
	if len(s) > 253 || s == "" || s[0] == '-' {
		return fmt.Errorf("%.40q is not a host's name or address", s)
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._:%", r)) {
			return fmt.Errorf("%.40q is not a host's name or address", s)
		}
	}
	return nil
}
