package worker

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/covey-ml/covey/cluster"
	"github.com/covey-ml/covey/cluster/place"
	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/pki"
	"github.com/covey-ml/covey/train"
)

// The environment by which a program that calls Run learns which run it takes part in, beside what cluster names: COVEY_TOKEN and,
// from covey launch, COVEY_RANK, COVEY_MEMBER and COVEY_SHM.
const (
	EnvJoin      = "COVEY_JOIN"      // the run's servers, HOST:PORT[,HOST:PORT...]
	EnvRun       = "COVEY_RUN"       // its name there; empty: the only one
	EnvTLS       = "COVEY_TLS"       // folder with certificates
	EnvNode      = "COVEY_NODE"      // name of this host's in it; empty: the only one there
	EnvSeed      = "COVEY_NATS_SEED" // file with the nkey seed by which servers of your own know us
	EnvCreds     = "COVEY_NATS_CREDS"
	EnvSpot      = "COVEY_SPOT"      // who says when this host is about to be taken, as spot.Parse reads it; empty: nobody does
	EnvElsewhere = "COVEY_ELSEWHERE" // set where the launcher's files are not
)

// environment is what a launcher of ours, or a user, says in it.
type environment struct {
	access    cluster.Access
	run       string
	rank      int // -1: any
	id        string
	shm       int // -1: none
	elsewhere bool
}

// start reads the environment: what run of ours to join, or which place another launcher gave this process, or neither.
func start() (*environment, *place.Place, error) {
	if os.Getenv(EnvJoin) == "" {
		p, err := place.Detect(os.Getenv)
		if err != nil || p == nil || p.Size == 1 {
			return nil, nil, err
		}
		return nil, p, nil
	}
	rank, id, shm, err := Launched()
	if err != nil {
		return nil, nil, err
	}
	e := &environment{run: os.Getenv(EnvRun), id: id, rank: rank, shm: shm, elsewhere: os.Getenv(EnvElsewhere) != ""}
	e.access = cluster.Access{Servers: Servers(os.Getenv(EnvJoin)), Token: os.Getenv(cluster.EnvToken), Seed: os.Getenv(EnvSeed), Credentials: os.Getenv(EnvCreds)}
	if len(e.access.Servers) == 0 {
		return nil, nil, fmt.Errorf("%s is %q, expected HOST:PORT", EnvJoin, os.Getenv(EnvJoin))
	}
	return e, nil, nil
}

// Launched is what a launcher of ours told this process: the rank that it was started as, by which the others know it, and the
// descriptor of the memory that it shares with them. Rank and descriptor are -1 when it told none.
func Launched() (rank int, id string, shm int, err error) {
	rank, shm = -1, -1
	for name, to := range map[string]*int{cluster.EnvRank: &rank, cluster.EnvShm: &shm} {
		if text := os.Getenv(name); text != "" {
			n, err := strconv.Atoi(text)
			if err != nil || n < 0 {
				return -1, "", -1, fmt.Errorf("%s is %.40q, expected a whole number from 0", name, text)
			}
			*to = n
		}
	}
	return rank, os.Getenv(cluster.EnvID), shm, nil
}

// Servers are those of a list as users write it.
func Servers(list string) (all []string) {
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); s != "" {
			if !strings.Contains(s, "://") {
				s = "nats://" + s
			}
			all = append(all, s)
		}
	}
	return all
}

// credentials are the option's, or those that the environment names.
func (o *options) credentials() (*tls.Config, error) {
	dir := os.Getenv(EnvTLS)
	if o.tls != nil || dir == "" {
		return o.tls, nil
	}
	return pki.Load(dir, os.Getenv(EnvNode), time.Now())
}

// launched takes part in the run that the environment names.
func (o *options) launched(ctx context.Context, c train.Config, e *environment) (*Report, error) {
	creds, err := o.credentials()
	if err != nil {
		return nil, err
	}
	e.access.TLS = creds
	store, err := open(ctx, e.access, e.run)
	if err != nil {
		return nil, err
	}
	defer store.Close()
	byHand := e.rank < 0
	m, err := Join(ctx, store, Joining{ID: e.id, Rank: e.rank, Writer: c.Dir == "" || !byHand && !e.elsewhere, TLS: creds, Shm: e.shm})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	here := 1
	if !byHand {
		here = m.Worker.Run.Local
	}
	return o.take(ctx, c, m, here)
}

// open reaches a run's store.
func open(ctx context.Context, a cluster.Access, run string) (cluster.Store, error) {
	clock := comm.RealClock()
	ctx, done := clock.WithTimeout(ctx, startUp)
	defer done()
	return cluster.Open(ctx, a, run, clock)
}

// Program is what stands in the place of a job in a run whose workers are programs that call Run.
var Program = []byte("# Its workers are a program that calls Covey's library.\n")

// IsProgram tells whether a run's workers are such programs, rather than covey's own.
func IsProgram(r cluster.Run) bool { return bytes.Equal(r.Job, Program) }

func isProgram(r cluster.Run) error {
	if !IsProgram(r) {
		return errors.New("that run trains a job of covey train: take part in it with covey join")
	}
	return nil
}
