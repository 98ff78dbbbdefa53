// Times ps-lite's push and pull of rows of floats: ps ROWS WIDTH BATCH HANDLER BLOCKS CALLS WINDOW.
//
// Every process of the group runs it, and DMLC_ROLE tells each what it is. Each worker pushes gradients of BATCH of the ROWS
// rows, CALLS times a block, then pulls such rows as often; WINDOW calls are under way at once. The first worker prints
// {"push_values_per_s": ..., "pull_values_per_s": ...}: what all workers together move in the median block. Every pushed value
// is a small integer, so what is pulled at the end must be the exact sum of all pushes that were timed.
//
// HANDLER is the server's: "flat" keeps its rows in one array, a key a row; "default" is ps-lite's own, a key a value.
#include <ps/ps.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

using Values = ps::SArray<float>;
using Rows = std::vector<size_t>;

static size_t rows, width, batch;
static bool flat;
static int blocks, calls, window;

// What a worker pushes to a value: 1 to 8 where there are two.
static float pushed(int worker, size_t row, size_t column) { return (row * width + column) % 7 + 1 + worker; }

// The key of a row's first value. Each server has as many rows, from the beginning of its range of keys on.
static ps::Key key(size_t row) {
	size_t each = rows / ps::NumServers();
	return ps::Postoffice::Get()->GetServerKeyRanges()[row / each].begin() + row % each * (flat ? 1 : width);
}

// The handler of a server that keeps all its rows in one array.
class Flat {
public:
	Flat() : first(key(rows / ps::NumServers() * ps::MyRank())), store(rows / ps::NumServers() * width) {}

	void operator()(const ps::KVMeta &meta, const ps::KVPairs<float> &data, ps::KVServer<float> *server) {
		ps::KVPairs<float> answer;
		size_t n = data.keys.size();
		if (meta.push)
			for (size_t i = 0; i < n; i++) add(row(data.keys[i]), data.vals.data() + i * width);
		if (meta.pull) {
			answer.keys = data.keys;
			if (data.keys.back() - data.keys.front() == n - 1) { // neighbours go out from where they are
				answer.vals = Values(row(data.keys.front()), n * width);
			} else {
				answer.vals = Values(new float[n * width], n * width, true);
				for (size_t i = 0; i < n; i++) std::copy_n(row(data.keys[i]), width, answer.vals.data() + i * width);
			}
		}
		server->Response(meta, answer);
	}

private:
	float *row(ps::Key k) { return store.data() + (k - first) * width; }

	static void add(float *__restrict to, const float *__restrict from) {
		for (size_t c = 0, n = width; c < n; c++) to[c] += from[c];
	}

	ps::Key first;
	std::vector<float> store;
};

static void serve() {
	auto server = new ps::KVServer<float>(0);
	if (flat) {
		auto handler = std::make_shared<Flat>();
		server->set_request_handle([handler](const auto &meta, const auto &data, auto *s) { (*handler)(meta, data, s); });
	} else {
		server->set_request_handle(ps::KVServerDefaultHandle<float>());
	}
	ps::RegisterExitCallback([server] { delete server; });
}

// The rows of a worker's b-th batch, ascending.
static Rows draw(int worker, size_t b) {
	Rows all(rows), out;
	std::iota(all.begin(), all.end(), size_t(0));
	std::mt19937_64 random(1000 * worker + b);
	std::sample(all.begin(), all.end(), std::back_inserter(out), batch, random);
	return out;
}

static double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

static void barrier(int group) { ps::Postoffice::Get()->Barrier(0, group); }

class Worker {
public:
	Worker() : kv(0, 0), batches(batch == rows ? 1 : 8) {
		for (size_t b = 0; b < batches; b++) {
			drawn.push_back(draw(ps::MyRank(), b));
			std::vector<ps::Key> k;
			for (size_t row : drawn[b])
				for (size_t c = 0; c < (flat ? 1 : width); c++) k.push_back(key(row) + c);
			keys.emplace_back(k);
			gradients.emplace_back(batch * width);
			for (size_t i = 0; i < batch * width; i++) gradients[b][i] = pushed(ps::MyRank(), drawn[b][i / width], i % width);
		}
		for (size_t s = 0; s < std::max<size_t>(batches, window); s++) pulled.emplace_back(batch * width);
	}

	// Values per second of all workers.
	double push() {
		return median([this](size_t n) { return kv.ZPush(keys[n % batches], gradients[n % batches]); }, [] {});
	}

	double pull() {
		auto sums = expected();
		return median([this](size_t n) { return kv.ZPull(keys[n % batches], &pulled[n % pulled.size()]); }, [&] { check(sums); });
	}

private:
	template <typename Call, typename After> double median(Call call, After after) {
		std::vector<double> took;
		std::vector<int> ticket(window);
		for (int b = 0, n = 0; b <= blocks; b++) {
			barrier(ps::kWorkerGroup);
			double start = now();
			for (int i = 0; i < calls; i++, n++) {
				if (i >= window) kv.Wait(ticket[i % window]);
				ticket[i % window] = call(n);
			}
			for (int t : ticket) kv.Wait(t);
			barrier(ps::kWorkerGroup);
			if (b > 0) took.push_back(now() - start); // the first one warms up
			after();
		}
		std::sort(took.begin(), took.end());
		return ps::NumWorkers() * double(calls) * batch * width / ((took[(blocks - 1) / 2] + took[blocks / 2]) / 2);
	}

	// How often each worker has pushed each row.
	std::vector<std::vector<int>> expected() {
		std::vector<std::vector<int>> times(ps::NumWorkers(), std::vector<int>(rows));
		size_t all = size_t(blocks + 1) * calls;
		for (int w = 0; w < ps::NumWorkers(); w++)
			for (size_t b = 0; b < batches; b++)
				for (size_t row : draw(w, b)) times[w][row] += all / batches + (b < all % batches);
		return times;
	}

	void check(const std::vector<std::vector<int>> &times) {
		for (size_t s = 0; s < pulled.size(); s++)
			for (size_t i = 0; i < batch * width; i++) {
				size_t row = drawn[s % batches][i / width];
				float want = 0;
				for (int w = 0; w < ps::NumWorkers(); w++) want += times[w][row] * pushed(w, row, i % width);
				if (pulled[s][i] != want) {
					std::fprintf(stderr, "value %zu of row %zu is %g and should be %g\n", i % width, row, pulled[s][i], want);
					std::_Exit(1);
				}
			}
	}

	ps::KVWorker<float> kv;
	size_t batches;
	std::vector<Rows> drawn;
	std::vector<ps::SArray<ps::Key>> keys;
	std::vector<Values> gradients, pulled; // pulled: one for each call that may be under way, as many as batches or more
};

int main(int argc, char **argv) {
	if (argc != 8) {
		std::fprintf(stderr, "usage: ps ROWS WIDTH BATCH flat|default BLOCKS CALLS WINDOW\n");
		return 2;
	}
	rows = std::atol(argv[1]), width = std::atol(argv[2]), batch = std::atol(argv[3]), flat = argv[4][0] == 'f';
	blocks = std::atoi(argv[5]), calls = std::atoi(argv[6]), window = std::atoi(argv[7]);
	CHECK(batch >= 1 && batch <= rows && blocks >= 1 && calls >= 8 && window >= 1 && window <= 8);
	ps::Start(0);
	CHECK_EQ(rows % ps::NumServers(), 0u) << "rows are left over";
	if (ps::IsServer()) serve();
	if (!ps::IsScheduler()) barrier(ps::kWorkerGroup + ps::kServerGroup); // until the servers have handlers
	if (ps::IsWorker()) {
		Worker worker;
		double push = worker.push(), pull = worker.pull();
		if (ps::MyRank() == 0) std::printf("{\"push_values_per_s\": %.6g, \"pull_values_per_s\": %.6g}\n", push, pull);
	}
	ps::Finalize(0, true);
}
