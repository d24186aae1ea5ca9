package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"
)

// api is as much of the Kubernetes API as a cloud needs: Services and their status.
type api struct {
	server string
	client *http.Client
}

type service struct {
	Metadata struct {
		Name              string   `json:"name"`
		Namespace         string   `json:"namespace"`
		UID               string   `json:"uid"`
		DeletionTimestamp string   `json:"deletionTimestamp"`
		Finalizers        []string `json:"finalizers"`
	} `json:"metadata"`
	Spec struct {
		Type    string   `json:"type"`
		Class   string   `json:"loadBalancerClass"`
		Sources []string `json:"loadBalancerSourceRanges"`
		Ports   []struct {
			Port     uint16 `json:"port"`
			NodePort uint16 `json:"nodePort"`
			Protocol string `json:"protocol"`
		} `json:"ports"`
	} `json:"spec"`
	Status struct {
		LoadBalancer struct {
			Ingress []ingress `json:"ingress"`
		} `json:"loadBalancer"`
	} `json:"status"`
	whole json.RawMessage
}

func (s *service) UnmarshalJSON(text []byte) error {
	type plain service
	s.whole = bytes.Clone(text)
	return json.Unmarshal(text, (*plain)(s))
}

// held is what a controller writes on a Service of its class before it asks for a load balancer.
const held = "service.k8s.aws/resources"

// asks tells whether a Service is to have a balancer now. Without a class that is ours to see, as the cloud
// provider built into Kubernetes does; with one its controller decides.
func (s *service) asks() bool {
	return s.Spec.Type == "LoadBalancer" && s.Metadata.DeletionTimestamp == "" &&
		(s.Spec.Class == "" || slices.Contains(s.Metadata.Finalizers, held))
}

type ingress struct {
	Hostname string `json:"hostname,omitempty"`
	IP       string `json:"ip,omitempty"`
}

func (s *service) nodePorts() map[uint16]uint16 {
	ports := map[uint16]uint16{}
	for _, p := range s.Spec.Ports {
		if p.NodePort != 0 && (p.Protocol == "TCP" || p.Protocol == "") {
			ports[p.Port] = p.NodePort
		}
	}
	return ports
}

// wanted is what a balancer writes into its Service's status.
func (b *balancer) wanted(publish string) []ingress {
	switch publish {
	case "hostname":
		return []ingress{{Hostname: b.Name}}
	case "ip":
		return []ingress{{IP: b.addresses()[0].String()}}
	}
	return nil
}

func (s *service) publishes(b *balancer, publish string) bool {
	have, want := s.Status.LoadBalancer.Ingress, b.wanted(publish)
	if len(have) != len(want) {
		return false
	}
	return len(want) == 0 || have[0] == want[0]
}

func newAPI(kubeconfig string) (*api, error) {
	text, err := os.ReadFile(kubeconfig)
	if err != nil {
		return nil, err
	}
	var config struct {
		Clusters []struct {
			Cluster struct {
				Server string `yaml:"server"`
				CA     string `yaml:"certificate-authority-data"`
			} `yaml:"cluster"`
		} `yaml:"clusters"`
		Users []struct {
			User struct {
				Certificate string `yaml:"client-certificate-data"`
				Key         string `yaml:"client-key-data"`
			} `yaml:"user"`
		} `yaml:"users"`
	}
	if err := yaml.Unmarshal(text, &config); err != nil {
		return nil, err
	}
	if len(config.Clusters) == 0 || len(config.Users) == 0 {
		return nil, errors.New("the kubeconfig names no cluster or no user")
	}
	decoded := func(text string) []byte { raw, _ := base64.StdEncoding.DecodeString(text); return raw }
	pair, err := tls.X509KeyPair(decoded(config.Users[0].User.Certificate), decoded(config.Users[0].User.Key))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(decoded(config.Clusters[0].Cluster.CA))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}
	return &api{config.Clusters[0].Cluster.Server, &http.Client{Transport: transport}}, nil
}

// watchServices calls `see` with all Services now and after every change, for ever.
func (a *api) watchServices(see func([]service)) {
	for {
		if err := a.watchOnce(see); err != nil {
			log.Printf("%s: %v", a.server, err)
			time.Sleep(500 * time.Millisecond)
		}
	}
}

func (a *api) watchOnce(see func([]service)) error {
	var list struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Items []service `json:"items"`
	}
	body, err := a.get("/api/v1/services")
	if err != nil {
		return err
	}
	err = json.NewDecoder(body).Decode(&list)
	body.Close()
	if err != nil {
		return err
	}
	known := map[string]service{}
	for _, s := range list.Items {
		known[s.Metadata.UID] = s
	}
	tell := func() {
		all := make([]service, 0, len(known))
		for _, s := range known {
			all = append(all, s)
		}
		see(all)
	}
	tell()
	body, err = a.get("/api/v1/services?watch=true&timeoutSeconds=300&resourceVersion=" + list.Metadata.ResourceVersion)
	if err != nil {
		return err
	}
	defer body.Close()
	for events := json.NewDecoder(body); ; {
		var event struct {
			Type   string  `json:"type"`
			Object service `json:"object"`
		}
		switch err := events.Decode(&event); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
			known[event.Object.Metadata.UID] = event.Object
		case "DELETED":
			delete(known, event.Object.Metadata.UID)
		default:
			return nil // the server asks to begin again
		}
		tell()
	}
}

func (a *api) get(path string) (io.ReadCloser, error) {
	response, err := a.client.Get(a.server + path)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("GET %s: %s", path, response.Status)
	}
	return response.Body, nil
}

func (a *api) writeStatus(b *balancer, publish string) error {
	balancer := map[string]any{"ingress": b.wanted(publish)}
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": balancer}})
	if err != nil {
		return err
	}
	url := fmt.Sprintf("%s/api/v1/namespaces/%s/services/%s/status", a.server, b.Namespace, b.Service)
	request, err := http.NewRequest(http.MethodPatch, url, bytes.NewReader(patch))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/merge-patch+json")
	response, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		words, _ := io.ReadAll(response.Body)
		return fmt.Errorf("%s: %s", response.Status, words)
	}
	return nil
}
