package plan

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/covey-ml/covey/comm"
	"github.com/covey-ml/covey/comm/sim"
	"github.com/covey-ml/covey/model"
	"github.com/covey-ml/covey/network"
	"github.com/covey-ml/covey/train"
)

// What workers and servers say is what the ledger counts, to the message and the byte, for each rank, in each mode where time
// decides nothing, over messages and on the simulated network.
func TestFormulaOfServersIsTheLedger(t *testing.T) {
	net, err := network.New("10gigabit:workers=2", 8)
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"bsp", "ssp,guard=off", "ssp,staleness=0", "gssp,guard=off", "async,guard=off", "dc,guard=off", "downpour,guard=off", "downpour,push=2,fetch=3,guard=off",
		"downpour,push=3,fetch=1,guard=off", "backup", "bsp,deal=dynamic"} {
		exact := mode != "backup" && mode != "bsp,deal=dynamic"
		for _, of := range []struct{ workers, servers, shards int }{{1, 1, 1}, {2, 1, 2}, {3, 2, 7}, {4, 3, 3}, {5, 2, 20}} {
			if mode == "backup" && of.workers == 1 {
				continue
			}
			keys := fmt.Sprintf("workers=%d microshards=%d steps=5 strategy=ps:servers=%d,mode=%s optimizer=momentum", of.workers, of.shards, of.servers, mode)
			if exact {
				verify(t, keys, true)
			}
			c, n := conf(t, keys)
			got, err := Verify(t.Context(), c, n, nil, 100, Simulated(net))
			if err != nil || !got.Agrees {
				t.Errorf("%s: %+v, error %v", keys, got, err)
				continue
			}
			for _, r := range got.Rows {
				if r.Phase == Exchanges && (r.Exact != exact || r.Exact && !r.Agrees || r.Formula.Messages == 0) {
					t.Errorf("%s: %+v", keys, r)
				}
			}
		}
	}
}

// simulated plans a job on a network, and trains it there.
func simulated(t *testing.T, c train.Config, preset string, conf sim.Config) (*Cost, *train.Report, time.Duration) {
	t.Helper()
	net, err := network.New(preset, conf.Workers)
	if err != nil {
		t.Fatal(err)
	}
	s, err := On(t.Context(), net, conf.Workers)
	if err != nil {
		t.Fatal(err)
	}
	k, err := Of(c, s)
	if err != nil {
		t.Fatal(err)
	}
	conf.Network = net
	w, err := sim.New(conf)
	if err != nil {
		t.Fatal(err)
	}
	r, err := train.Simulate(t.Context(), w, c)
	if err != nil {
		t.Fatal(err)
	}
	return k, r, w.Now()
}

// The same over several epochs, at whose ends all meet, and with a checkpoint due in their midst, where they meet too.
func TestFormulaOfMeetings(t *testing.T) {
	for _, mode := range []string{"bsp", "async", "downpour,push=4,fetch=3"} {
		for _, save := range []int{0, 1, 4} {
			c, n := conf(t, fmt.Sprintf("workers=3 steps=15 save=%d strategy=ps:servers=2,mode=%s", save, mode))
			k, r, _ := simulated(t, c, "10gigabit", sim.Config{Workers: n, Timeout: time.Minute})
			for _, op := range []comm.Op{comm.OpPush, comm.OpPull} {
				var want, got Sent
				for _, l := range k.Lines {
					if l.op == op {
						want.add(l.Sent, l.Times)
					}
				}
				for _, o := range r.Ops {
					if o.Op == op.String() {
						got = Sent{o.Messages, o.Payload, o.Header}
					}
				}
				if got != want || got.Messages == 0 {
					t.Errorf("%s, save=%d: %v: formula %+v, ledger %+v", mode, save, op, want, got)
				}
			}
		}
	}
}

// A step takes as long as its messages do on the network: of each push and answer the busiest link's bytes (Li et al., OSDI 2014,
// section 5: servers' bandwidth is what bounds them), n servers having an n-th. What the formula leaves out, a server's processor
// time for each byte and its update, is less than a twentieth here.
func TestTimeOfServersIsTheNetworks(t *testing.T) {
	var last float64
	for _, servers := range []int{1, 2, 4} {
		c, n := conf(t, fmt.Sprintf("workers=8 data=synthetic:2048 model=profile:resnet50 batch=128 steps=4 optimizer=sgd strategy=ps:servers=%d", servers))
		k, _, took := simulated(t, c, "gigabit:flops=1000000PFLOP/s,memory=100TB/s", sim.Config{Workers: n, Timeout: time.Hour, Hollow: true})
		if r := k.Exchange.Seconds / took.Seconds(); math.Abs(r-1) > 0.05 {
			t.Errorf("%d servers: the formula says %v, the network took %v", servers, k.Exchange.Seconds, took.Seconds())
		}
		if r := last / k.Exchange.Seconds; last > 0 && math.Abs(r-2) > 0.01 {
			t.Errorf("%d servers take %v, half as many %v", servers, k.Exchange.Seconds, last)
		}
		last = k.Exchange.Seconds
		if e := k.Each; e.Server.Received.Payload < int64(4*8*4*k.Parameters/servers) || e.Worker.Sent.Messages != int64(4*servers+servers) {
			t.Errorf("%d servers: %+v", servers, e)
		}
	}
}

// tabled is a model of which a table is all there is.
type tabled struct{ model.Sparse }

func (tabled) Layout() model.Layout  { return nil }
func (tabled) Tables() []model.Table { return []model.Table{{Name: "a", Rows: 10, Width: 2}} }

// What rows are sent hangs on the data.
func TestTablesHaveNoClosedForm(t *testing.T) {
	c, n := conf(t, "workers=2 strategy=ps")
	c.Model = model.NewWhole(tabled{})
	if _, err := Of(c, TCP(n)); err == nil || !strings.Contains(err.Error(), "model: which rows of its tables a step needs depends on the data") {
		t.Errorf("error %v", err)
	}
}

// What codes and copies come to is not planned, and is not passed over.
func TestCodesAndCopiesHaveNoClosedForm(t *testing.T) {
	for keys, why := range map[string]string{
		"workers=2 strategy=ps compress=topk:0.1+ef":             "compress: what codes of pushes come to is not planned",
		"workers=2 strategy=ps:pull=uniform:8":                   "strategy: what pull=uniform:8 saves is not planned",
		"workers=2 strategy=ps:servers=2,copies=2 optimizer=sgd": "strategy: what copies=2 send each other is not planned",
	} {
		c, n := conf(t, keys)
		if _, err := Of(c, TCP(n)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: error %v, expected %q", keys, err, why)
		}
	}
}
