package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/worker"
)

// reach is how a run's server is reached: flags that all verbs share.
type reach struct {
	creds credentials
	nats  string
	seed  string
	user  string
	told  string // the address of this process's own server, as others know it; empty: where it listens
}

func (r *reach) addFlags(c *cobra.Command) {
	r.creds.addFlags(c)
	c.Flags().StringVar(&r.nats, "nats", "", "NATS servers of your own, as in nats://a,b,c (default: one inside the launcher)")
	c.Flags().StringVar(&r.seed, "nats-seed", "", "file with the nkey seed by which those servers know us")
	c.Flags().StringVar(&r.user, "nats-creds", "", "credentials file by which they do")
}

// access is how servers at these addresses are reached with a token.
func (r *reach) access(servers []string, token string) (cluster.Access, error) {
	creds, err := r.creds.load()
	return cluster.Access{Servers: servers, Token: token, TLS: creds, Seed: r.seed, Credentials: r.user}, err
}

// servers are those of --nats.
func (r *reach) servers() []string { return worker.Servers(r.nats) }

// args are the flags by which a process of this host reaches the same servers.
func (r *reach) args() []string {
	var all []string
	for _, f := range [][2]string{{"--tls", r.creds.dir}, {"--node", r.creds.node}, {"--nats-seed", r.seed}, {"--nats-creds", r.user}} {
		if f[1] != "" {
			all = append(all, f[0], f[1])
		}
	}
	return all
}

// base is a run's meeting place, from the launcher's side.
type base struct {
	server *cluster.Server // nil: it is somebody else's
	store  cluster.Store
	meeting
}

// meeting is where a run's workers meet: what an elastic run leaves in its folder, for who looks for it.
type meeting struct {
	Servers  []string `json:"servers"`
	Run      string   `json:"run"` // its name there
	Token    string   `json:"token,omitempty"`
	Embedded bool     `json:"embedded,omitempty"` // the server is inside the launcher
}

// meetingFile is the file of that in a run folder. Who can read it can join the run.
const meetingFile = "meeting.json"

func (p meeting) save(folder string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	path := filepath.Join(folder, meetingFile)
	os.Remove(path)
	return os.WriteFile(path, append(b, '\n'), 0o600)
}

func loadMeeting(folder string) (p meeting, err error) {
	b, err := os.ReadFile(filepath.Join(folder, meetingFile))
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err == nil && (len(p.Servers) == 0 || p.Run == "") {
		err = fmt.Errorf("%s names no servers", filepath.Join(folder, meetingFile))
	}
	return p, err
}

// meetingPlace makes, or takes up again, a run's meeting place. dir is where a server inside this process keeps what it knows;
// empty: nowhere.
func (r *reach) meetingPlace(ctx context.Context, listen, token, run, dir string, warn func(string)) (*base, error) {
	creds, err := r.creds.load()
	if err != nil {
		return nil, err
	}
	b := &base{meeting: meeting{Servers: r.servers(), Run: run, Token: token}}
	if len(b.Servers) == 0 {
		if b.Token == "" && creds == nil { // else certificates say who may
			b.Token = cluster.NewToken()
		}
		b.server, err = serverOf(cluster.ServerConfig{Listen: listen, Token: b.Token, TLS: creds, Dir: dir, Warn: warn})
		if err != nil {
			return nil, &usageError{err}
		}
		b.Servers, b.Embedded = []string{b.server.Addr()}, true
		if r.told != "" {
			b.Servers[0] = r.told
		}
	}
	a, err := r.access(b.Servers, b.Token)
	if err == nil {
		var cancel context.CancelFunc
		ctx, cancel = comm.RealClock().WithTimeout(ctx, startUp)
		defer cancel()
		b.store, err = cluster.Create(ctx, a, run, comm.RealClock())
	}
	if err != nil {
		b.close()
		return nil, &usageError{err}
	}
	return b, nil
}

func (b *base) close() {
	if b.store != nil {
		b.store.Close()
	}
	if b.server != nil {
		b.server.Close()
	}
}

// address is what who joins is told.
func (p meeting) address() string { return strings.Join(p.Servers, ",") }

// runName is what a run is called on a server: its folder's name, and something that no other run has.
func runName(folder string) string {
	return worker.RunName(filepath.Base(folder), "-"+cluster.NewID()[:6])
}

// open reaches a run as a worker that was started by a launcher or by hand.
func (o *joinOptions) open(ctx context.Context, addr string) (cluster.Store, error) {
	o.reach.nats = addr
	servers := o.reach.servers()
	if len(servers) == 0 {
		return nil, usagef("%q names no server: expected HOST:PORT", addr)
	}
	token := o.token
	if o.reach.creds.dir == "" && o.reach.seed == "" && o.reach.user == "" && token == "" {
		for _, s := range servers {
			if _, host, _ := strings.Cut(s, "://"); !strings.Contains(host, "@") && cluster.Loopback(host) {
				return nil, usagef("joining %s needs the token that covey train printed, as --token or in %s", addr, cluster.EnvToken)
			}
		}
	}
	a, err := o.reach.access(servers, token)
	if err != nil {
		return nil, err
	}
	ctx, cancel := comm.RealClock().WithTimeout(ctx, o.wait)
	defer cancel()
	store, err := cluster.Open(ctx, a, o.run, comm.RealClock())
	if err != nil {
		return nil, &usageError{err}
	}
	return store, nil
}
