package sim

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// find returns the links that a script calls by a name: one of the network's, or 3-*, as real runs (comm/faulty) name all
// that rank 3 sends and receives, which here are the links at its host.
func (w *World) find(name string) ([]int, error) {
	found, err := w.c.Network.Find(name)
	text, all := strings.CutSuffix(name, "-*")
	rank, bad := strconv.ParseUint(text, 10, 31)
	if err == nil || !all || bad != nil {
		return found, err
	}
	if rank >= uint64(len(w.nodes)) {
		return nil, fmt.Errorf("link %s: there is no rank %d: the ranks of %d workers are 0 to %d", name, rank, len(w.nodes), len(w.nodes)-1)
	}
	host := w.nodes[rank].host
	for _, n := range w.nodes {
		switch {
		case int(n.rank) == int(rank):
		case n.host == host:
			return nil, fmt.Errorf("link %s: rank %d has no links of its own: it shares host %s with rank %d", name, rank, w.c.Network.Hosts[host].Name, n.rank)
		default:
			out, in := w.c.Network.Path(nil, host, n.host), w.c.Network.Path(nil, n.host, host)
			found = append(found, out[0], in[len(in)-1])
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}
