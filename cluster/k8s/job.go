// Package k8s writes what runs a job on Kubernetes: an Indexed Job of a pod a worker, a headless Service by which the pods find
// each other, a ConfigMap with the job file and, from a folder that covey ca made, a Secret with certificates.
//
//	all, err := k8s.Write(k8s.Job{Name: "mnist", Image: "registry.example/covey:1", Workers: 4, File: text, Certs: "certs"})
//	os.Stdout.Write(k8s.YAML(all)) // for kubectl apply -f -
//
// A pod runs covey train with the job file. Which rank it is and where rank 0 is, it learns from its environment: see package
// place. It talks to no API server, needs no rights there, and runs as no particular user on a file system that it cannot write to
// but for its volumes. Kubernetes 1.29 or later is asked for: the failure policy, limits an index and the replacement policy are
// on by default from there.
package k8s

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/covey-ml/covey/cluster/place"
	"github.com/covey-ml/covey/spec"
)

// Job says what is to run where. The zero value of a field means what its comment says.
type Job struct {
	Name      string // of everything that is written, and of the run: a DNS label
	Namespace string // empty: kubectl's
	Image     string // with covey in it, as Dockerfile makes one
	Workers   int
	File      []byte // the job file

	NATS []string // servers of your own that keep the run; none: pod 0 does
	Args []string // more of the command line of covey train

	// Beyond one pod, workers show each other certificates: of a Secret that is there, or of a folder that covey ca made and that
	// goes into a Secret. Needs returns the names that they must hold.
	Secret string
	Certs  string
	Node   string    // name of the certificate in Certs; empty: Name
	Now    time.Time // when Certs must be valid

	Data Volume // at /data, read only
	Runs Volume // at /runs, for the run folder; none: it ends with the pod

	CPU, Memory string        // of a pod, as in 500m and 2Gi; empty: no limit
	Grace       time.Duration // to save and leave in, when a pod is asked to end; 0: one minute
	Deadline    time.Duration // after which the whole Job is ended; 0: none
	Retries     int           // how often a pod that failed is replaced, disruptions not counted; 0: 6, below: never
}

// Volume is where a pod's folder comes from: at most one of its fields is set, and none: no volume.
type Volume struct {
	Claim    string // a PersistentVolumeClaim. Pods on several nodes need one of access mode ReadWriteMany
	HostPath string // a folder of the node
	Empty    bool   // a new one that ends with the pod
}

// ParseVolume reads a volume as flags write it: claim:NAME, host:/PATH, empty, or nothing.
func ParseVolume(text string) (Volume, error) {
	kind, value, some := strings.Cut(text, ":")
	switch {
	case text == "":
		return Volume{}, nil
	case kind == "empty" && !some:
		return Volume{Empty: true}, nil
	case kind == "claim" && value != "":
		return Volume{Claim: value}, nil
	case kind == "host" && value != "":
		return Volume{HostPath: value}, nil
	}
	if err := spec.OneOf("volume", kind, "claim", "host", "empty"); err != nil {
		return Volume{}, err
	}
	return Volume{}, fmt.Errorf("volume %q: expected claim:NAME, host:/PATH or empty", text)
}

// Ports of a pod.
const (
	OpsPort = 9464          // /healthz, /readyz and /metrics
	PodPort = place.PodPort // where pod 0 serves the others
)

// What a pod is told beside package place's variables.
const EnvOps = "COVEY_OPS" // the address to serve OpsPort at

// Where a pod finds things.
const (
	jobFolder  = "/job"
	certFolder = "/certs"
	dataFolder = "/data"
	runsFolder = "/runs"
	binary     = "/usr/local/bin/covey"
	jobKey     = "job.yaml"
)

// The bounds that Kubernetes sets.
const (
	maxLabel   = 63
	maxFile    = 512 << 10 // a ConfigMap holds 1 MiB
	maxWorkers = 100_000   // completions of an Indexed Job whose pods may fail each for itself
)

const (
	defaultGrace   = time.Minute
	defaultRetries = 6
	user           = 65532 // nobody in particular, and not root
)

// Error is a field of a Job that cannot be carried out.
type Error struct {
	Field string // as flags write it
	Err   error
}

func (e *Error) Error() string { return e.Field + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

func errorf(field, format string, args ...any) error {
	return &Error{field, fmt.Errorf(format, args...)}
}

var (
	label    = regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`) // of RFC 1035, as a Service's name must be
	object   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`)
	image    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:/@-]*$`)
	quantity = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?|\.[0-9]+)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$`)
)

// validate checks everything that the API server would refuse, and what it would take and never run.
func (j Job) validate() (Job, error) {
	if j.Workers < 1 || j.Workers > maxWorkers {
		return j, errorf("workers", "%d, expected 1 to %d", j.Workers, maxWorkers)
	}
	last := "-" + strconv.Itoa(j.Workers-1)
	switch {
	case !label.MatchString(j.Name):
		return j, errorf("name", "%.80q: expected small letters, digits and -, a letter first", j.Name)
	case len(j.Name)+len(last) > maxLabel:
		return j, errorf("name", "%.80q and %s, the last pod's name, are longer than %d letters", j.Name, last, maxLabel)
	case j.Namespace != "" && (!label.MatchString(j.Namespace) || len(j.Namespace) > maxLabel):
		return j, errorf("namespace", "%.80q: expected up to %d small letters, digits and -, a letter first", j.Namespace, maxLabel)
	case !image.MatchString(j.Image) || len(j.Image) > 4096:
		return j, errorf("image", "%.80q: expected an image such as registry.example/covey:1", j.Image)
	case len(j.File) == 0:
		return j, errorf("job", "the job file is empty")
	case len(j.File) > maxFile:
		return j, errorf("job", "a job file of %d bytes, more than %d", len(j.File), maxFile)
	}
	for _, at := range j.NATS {
		if err := checkServer(at); err != nil {
			return j, err
		}
	}
	for _, a := range j.Args {
		if strings.ContainsFunc(a, unicode.IsControl) || strings.Contains(a, "$(") || len(a) > 4096 {
			return j, errorf("args", "%.80q: expected text without control characters and without $(", a)
		}
	}
	switch {
	case j.Secret != "" && j.Certs != "":
		return j, errorf("secret", "give either a Secret that is there or a folder of certificates, not both")
	case j.Secret == "" && j.Certs == "" && j.Workers > 1:
		return j, errorf("tls", "%d pods need certificates to know each other: make them with covey ca init DIR and covey ca issue DIR %s %s, and give --tls DIR",
			j.Workers, j.Name, strings.Join(quoteAll(j.Needs()), " "))
	case j.Secret != "" && !isObject(j.Secret):
		return j, errorf("secret", "%.80q cannot be a Secret's name", j.Secret)
	}
	if j.Node == "" {
		j.Node = j.Name
	}
	for field, v := range map[string]Volume{"data": j.Data, "runs": j.Runs} {
		if err := v.validate(field); err != nil {
			return j, err
		}
	}
	for field, q := range map[string]string{"cpu": j.CPU, "memory": j.Memory} {
		if q != "" && (!quantity.MatchString(q) || len(q) > 20 || strings.Trim(q, "0.mkMGTi") == "") {
			return j, errorf(field, "%.40q: expected a quantity such as 500m, 2 or 4Gi", q)
		}
	}
	if strings.HasSuffix(j.Memory, "m") {
		return j, errorf("memory", "%q are thousandths of a byte: for MiB write %si", j.Memory, strings.ToUpper(j.Memory))
	}
	if j.Grace == 0 {
		j.Grace = defaultGrace
	}
	if j.Grace < time.Second || j.Grace > 24*time.Hour {
		return j, errorf("grace", "%v, expected 1s to 24h", j.Grace)
	}
	if j.Deadline != 0 && (j.Deadline < time.Second || j.Deadline > 10*365*24*time.Hour) {
		return j, errorf("deadline", "%v, expected 1s or more, up to ten years", j.Deadline)
	}
	switch {
	case j.Retries == 0:
		j.Retries = defaultRetries
	case j.Retries < 0:
		j.Retries = 0
	case j.Retries > 1000:
		return j, errorf("retries", "%d, expected up to 1000", j.Retries)
	}
	return j, nil
}

func (v Volume) validate(field string) error {
	set := 0
	for _, b := range []bool{v.Claim != "", v.HostPath != "", v.Empty} {
		if b {
			set++
		}
	}
	switch {
	case set > 1:
		return errorf(field, "a claim, a folder of the node or an empty one: expected one of them")
	case v.Claim != "" && !isObject(v.Claim):
		return errorf(field, "%.80q cannot be a claim's name", v.Claim)
	case v.HostPath != "" && (path.Clean(v.HostPath) != v.HostPath || !path.IsAbs(v.HostPath) || strings.ContainsFunc(v.HostPath, unicode.IsControl)):
		return errorf(field, "%.80q: expected a whole path of the node, as in /srv/data", v.HostPath)
	}
	return nil
}

// isObject tells whether a name is what most objects' names must be: DNS labels with dots.
func isObject(name string) bool {
	if len(name) > 253 {
		return false
	}
	for part := range strings.SplitSeq(name, ".") {
		if !object.MatchString(part) {
			return false
		}
	}
	return true
}

func checkServer(at string) error {
	text := at
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "nats" && u.Scheme != "tls" || u.Path != "" || u.RawQuery != "" || strings.ContainsAny(at, " ,$\""):
		return errorf("nats", "%.80q: expected HOST:PORT or nats://HOST:PORT", at)
	case u.User != nil:
		return errorf("nats", "an address with a password would be for all to read in the Job: leave it out, and let certificates tell who we are")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return errorf("nats", "%.80q: %s is no port", at, p)
		}
	}
	return nil
}

// Needs returns the names that the pods' certificate must hold: by them they dial each other.
func (j Job) Needs() []string { return []string{"*." + j.Name} }

func quoteAll(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = "'" + w + "'" // a shell would take the star
	}
	return out
}
