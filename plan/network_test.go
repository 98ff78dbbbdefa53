package plan

import (
	"strings"
	"testing"

	"github.com/covey-ml/covey/network"
)

// On a network of several hosts, with the hosts' own choices and sums.
func TestFormulaIsTheLedgerOfANetwork(t *testing.T) {
	for _, keys := range []string{"workers=6 steps=2", "workers=6 steps=3 algorithm=hierarchical", "workers=4 steps=2 compress=fp16+hosts", "workers=6 steps=4 strategy=local:K=2 compress=onebit+ef+hosts"} {
		c, n := conf(t, keys)
		for _, choice := range []string{"gigabit", "gigabit:workers=2"} {
			if choice == "gigabit" && strings.Contains(keys, "hierarchical") {
				continue
			}
			net, err := network.New(choice, n)
			if err != nil {
				t.Fatal(err)
			}
			s, err := On(t.Context(), net, n)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Of(c, s); err != nil {
				t.Errorf("%s: %s: %v", choice, keys, err)
			}
			got, err := Verify(t.Context(), c, n, s.Hosts, 100, Simulated(net))
			if err != nil || !got.Agrees {
				t.Errorf("%s, %s: %+v, error %v", choice, keys, got, err)
			}
		}
	}
}
