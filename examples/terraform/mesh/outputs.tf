output "ready" {
  description = "Whether every cluster holds and has synced what it needs to reach the others."
  value       = data.external.mesh.result.ready == "true"
}

output "reason" {
  description = "Why the mesh is not ready."
  value       = data.external.mesh.result.reason
}

output "gateways" {
  description = "Addresses of the east-west gateways, by cluster."
  value       = jsondecode(data.external.mesh.result.gateways_json)
}

output "root_sha256" {
  description = "Fingerprint of the root all members share."
  value       = data.external.mesh.result.root_sha256
}
