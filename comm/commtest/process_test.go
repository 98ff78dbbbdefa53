package commtest_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/shm"
	"github.com/covey-ml/covey/comm/tcp"
)

var (
	kills = flag.Int("kills", 6, "groups of processes that lose workers, for each transport and moment; a third of it while joining")
	seed  = flag.Uint64("seed", 0, "of the moments and groups; 0 draws one")
)

// part is what a worker process is told on its standard input.
type part struct {
	Transport string
	Rank      int
	Addrs     []string // tcp
	Size      int
	Seed      uint64 // the same on every rank: which collectives
	Rounds    int    // of collectives
	Die       int    // the round in which to die, -1 before the group is whole, above Rounds never
	Spin      int    // how far into it
	Setup     time.Duration
	Timeout   time.Duration
}

// verdict is what it says at the end.
type verdict struct {
	Err    string
	Peer   int // whom a PeerError names, -2 when there was none
	Lost   bool
	Rounds int // that went well
}

const workerVar = "COVEY_COMMTEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerVar) == "" {
		os.Exit(m.Run())
	}
	v := verdict{Peer: -2}
	if err := work(&v); err != nil {
		v.Err, v.Lost = err.Error(), errors.Is(err, comm.ErrLost)
		var pe *comm.PeerError
		if errors.As(err, &pe) {
			v.Peer = int(pe.Rank)
		}
	}
	b, _ := json.Marshal(v)
	fmt.Printf("%s\n", b)
}

func work(v *verdict) (err error) {
	ctx := context.Background()
	ln, err := tcp.Listen(ctx, "127.0.0.1:0", nil)
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	var p part
	if err := json.NewDecoder(os.Stdin).Decode(&p); err != nil {
		return err
	}
	if p.Die < 0 {
		go die(p.Spin)
	}
	var g comm.Group
	if p.Transport == "shm" {
		g, err = shm.Attach(os.NewFile(3, "shm"), comm.Rank(p.Rank), p.Setup, p.Timeout)
	} else {
		g, err = ln.Connect(ctx, comm.Rank(p.Rank), p.Addrs, tcp.Config{Secret: make([]byte, tcp.MinSecret), Timeout: p.Timeout, Setup: p.Setup})
	}
	if err != nil {
		return err
	}
	defer func() {
		if p.Die == p.Rounds {
			go die(p.Spin)
		}
		if cerr := g.Close(); err == nil {
			err = cerr
		}
	}()
	draw := rand.New(rand.NewPCG(p.Seed, 0))
	for v.Rounds < p.Rounds {
		if v.Rounds == p.Die {
			go die(p.Spin)
		}
		if err := round(ctx, g, draw); err != nil {
			return err
		}
		v.Rounds++
	}
	return nil
}

// die kills this process with nothing said and nothing tidied up, after so many turns of an empty loop.
func die(spin int) {
	for range spin {
		runtime.Gosched()
	}
	self, _ := os.FindProcess(os.Getpid())
	self.Kill()
}

// placed is where vectors lie that peers can reach.
var placed []float32

// round is one collective, drawn.
func round(ctx context.Context, g comm.Group, draw *rand.Rand) error {
	n := 1 << draw.IntN(19) // to a megabyte
	tree := comm.NewTree(g.Size()+draw.IntN(3), g.Size())
	algorithms := []comm.Algorithm{comm.Auto, comm.Direct, comm.Gather, comm.Binomial, comm.Ring, comm.Hierarchical.Hosts(2)}
	alg := algorithms[draw.IntN(len(algorithms))]
	if placed == nil {
		placed = comm.Alloc(g, 1<<20)
	}
	switch draw.IntN(7) {
	case 6: // vectors that peers reach, but for the heap that the result has
		parts := make([][]float32, tree.Vectors(g.Rank()))
		for i := range parts {
			parts[i] = placed[i*n:][:n]
		}
		x := make([]float32, n)
		return comm.Update(ctx, g, tree, parts, x, func(lo, hi int) { copy(x[lo:hi], parts[0][lo:hi]) })
	case 0:
		return comm.Barrier(ctx, g)
	case 1:
		_, err := comm.AllGatherBytes(ctx, g, make([]byte, n/8), nil)
		return err
	case 2:
		return comm.Broadcast(ctx, g, comm.Rank(draw.IntN(g.Size())), make([]byte, 4*n))
	}
	parts := make([][]float32, tree.Vectors(g.Rank()))
	for i := range parts {
		parts[i] = make([]float32, n)
	}
	return comm.AllReduceBy(ctx, g, tree, parts, alg)
}

type process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// group runs the parts, one process each, and returns what they say; nil for those that die.
func group(t *testing.T, parts []part) []*verdict {
	var files []*os.File
	if parts[0].Transport == "shm" {
		f, err := shm.Create(len(parts), shm.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = []*os.File{f}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	procs := make([]process, len(parts))
	var addrs []string
	for r := range parts {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), workerVar+"=1")
		cmd.ExtraFiles = files
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
		defer func() { cmd.Process.Kill(); cmd.Wait() }()
		procs[r] = process{cmd, in, bufio.NewScanner(out)}
	}
	for _, p := range procs {
		if !p.out.Scan() {
			t.Fatal("a worker says nothing")
		}
		addrs = append(addrs, p.out.Text())
	}
	for r, p := range procs {
		parts[r].Rank, parts[r].Size, parts[r].Addrs = r, len(parts), addrs
		if err := json.NewEncoder(p.in).Encode(parts[r]); err != nil {
			t.Fatal(err)
		}
	}
	said := make([]*verdict, len(parts))
	for r, p := range procs {
		if p.out.Scan() {
			said[r] = &verdict{}
			if err := json.Unmarshal(p.out.Bytes(), said[r]); err != nil {
				t.Fatalf("rank %d: %q", r, p.out.Text())
			}
		}
	}
	return said
}

// TestProcessesDie: workers of a group of processes are killed at drawn moments: before the group is whole, in the
// middle of collectives, one or two of them, or while the others finish. Every survivor ends within seconds, and with
// an error that names one that died, or, when the dead had done their part, with none.
func TestProcessesDie(t *testing.T) {
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("-seed %d", *seed)
	const long = 1 << 40
	for _, transport := range []string{"shm", "tcp"} {
		for _, when := range []string{"joining", "amid", "two amid", "ending", "never"} {
			t.Run(transport+"/"+when, func(t *testing.T) {
				if transport == "shm" && shm.Available() != nil {
					t.Skip(shm.Available())
				}
				draw := rand.New(rand.NewPCG(*seed, 0))
				var slowest time.Duration
				count := *kills
				if when == "joining" {
					count = (count + 2) / 3
				}
				for i := range count {
					parts := make([]part, 3+draw.IntN(3))
					set := part{Transport: transport, Seed: draw.Uint64(), Rounds: long, Die: long + 1, Setup: time.Minute, Timeout: time.Minute}
					if when == "joining" { // who never came is only missed
						set.Setup = 2 * time.Second
					}
					if when == "ending" || when == "never" {
						set.Rounds = 1 + draw.IntN(5)
						set.Die = set.Rounds + 1
					}
					for r := range parts {
						parts[r] = set
					}
					victims := draw.Perm(len(parts))[:1]
					switch when {
					case "two amid":
						victims = draw.Perm(len(parts))[:2]
					case "never":
						victims = nil
					}
					for _, v := range victims {
						parts[v].Spin = 1 << draw.IntN(18)
						switch when {
						case "joining":
							parts[v].Die = -1
						case "ending":
							parts[v].Die = max(0, set.Rounds-draw.IntN(2))
						default:
							parts[v].Die = draw.IntN(30)
						}
					}
					begun := time.Now()
					said := group(t, parts)
					took := time.Since(begun)
					slowest = max(slowest, took)
					bad := took > 15*time.Second
					var lines []string
					for r, v := range said {
						p := parts[r]
						victim := p.Die <= p.Rounds
						if v != nil {
							lines = append(lines, fmt.Sprintf("rank %d after %d rounds: %s", r, v.Rounds, v.Err))
						} else {
							lines = append(lines, fmt.Sprintf("rank %d died", r))
							bad = bad || !victim
							continue
						}
						named := v.Peer >= 0 && parts[v.Peer].Die <= parts[v.Peer].Rounds
						bad = bad || !(victim || named && (v.Lost || when == "joining") || v.Err == "" && v.Rounds == p.Rounds)
					}
					if bad {
						t.Errorf("group %d, of which %v die, after %v:\n%s", i, victims, took, strings.Join(lines, "\n"))
					}
				}
				t.Logf("slowest: %v", slowest)
			})
		}
	}
}
