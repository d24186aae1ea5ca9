package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
)

// controlAPI is how the lab and its tests steer the cloud:
//
//	GET  /state     every cluster's settings and every balancer
//	GET  /services  for whoever plays AWS: the clusters, their Services of type LoadBalancer, the balancers
//	GET  /try       ?cluster=NAME&address=IP:PORT: connect from inside that cluster's VPC
//	POST /clusters  {"name","kubeconfig","node","netns"}: take a cluster in
//	POST /settings  {"cluster": NAME or "*", "publish","resolve","forward","delay","pace","health","throttle"}
func controlAPI(c *cloud) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) { writeState(w, c) })
	mux.HandleFunc("GET /services", func(w http.ResponseWriter, _ *http.Request) { writeServices(w, c) })
	mux.HandleFunc("GET /try", func(w http.ResponseWriter, r *http.Request) {
		netns := c.netns(r.FormValue("cluster"))
		writeJSON(w, map[string]bool{"open": netns != "" && try(netns, r.FormValue("address"))})
	})
	mux.HandleFunc("POST /clusters", func(w http.ResponseWriter, r *http.Request) {
		var in joining
		if fails(w, json.NewDecoder(r.Body).Decode(&in)) || fails(w, c.join(in)) {
			return
		}
		writeState(w, c)
	})
	mux.HandleFunc("POST /settings", func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Cluster               string
			Publish, Health       *string
			Resolve, Forward      *bool
			Delay, Pace, Throttle *float64
		}
		if fails(w, json.NewDecoder(r.Body).Decode(&in)) {
			return
		}
		err := c.set(in.Cluster, func(s *settings) {
			assign(&s.Publish, in.Publish)
			assign(&s.Resolve, in.Resolve)
			assign(&s.Forward, in.Forward)
			assign(&s.Delay, in.Delay)
			assign(&s.Pace, in.Pace)
			assign(&s.Health, in.Health)
			assign(&s.Throttle, in.Throttle)
		})
		if !fails(w, err) {
			writeState(w, c)
		}
	})
	return mux
}

func assign[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func fails(w http.ResponseWriter, err error) bool {
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
	return err != nil
}

func writeState(w http.ResponseWriter, c *cloud) {
	c.mu.Lock()
	defer c.mu.Unlock()
	clusters := map[string]settings{}
	for name, m := range c.members {
		clusters[name] = m.settings
	}
	writeJSON(w, map[string]any{"clusters": clusters, "balancers": c.all()})
}

func writeServices(w http.ResponseWriter, c *cloud) {
	type told struct {
		joining
		Settings settings          `json:"settings"`
		Services []json.RawMessage `json:"services"`
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	clusters := []told{}
	for _, name := range slices.Sorted(maps.Keys(c.members)) {
		m := c.members[name]
		t := told{m.joining, m.settings, []json.RawMessage{}}
		for _, s := range m.services {
			t.Services = append(t.Services, s.whole)
		}
		clusters = append(clusters, t)
	}
	writeJSON(w, map[string]any{"clusters": clusters, "balancers": c.all()})
}

func writeJSON(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(what)
}
