variable "clusters" {
  description = "The members: a name for each, and how it is found: an EKS name, ARN, region/name, or kubeconfig context."
  type        = map(string)
  validation {
    condition     = length(var.clusters) >= 2
    error_message = "A mesh needs at least two clusters."
  }
}

variable "members" {
  description = "More that a mesh file says of a member, by its name, such as { eks-2 = { network = \"west\" } }."
  type        = any
  default     = {}
}

variable "mesh" {
  description = "What a mesh file says besides its name and clusters; yamldecode(file(\"mesh.yaml\")) reads one. Paths in it are absolute."
  type        = any
  default     = {}
}

variable "name" {
  description = "Name of the mesh."
  type        = string
  default     = "mesh"
}

variable "timeout" {
  description = "How long a join may wait for anything to become ready."
  type        = string
  default     = "15m"
}

variable "status_timeout" {
  description = "How long the status may take; after that the mesh counts as not ready."
  type        = string
  default     = "20s"
}

variable "require_ready" {
  description = "Fail plan and apply where the mesh is not ready, instead of warning."
  type        = bool
  default     = false
}

variable "options" {
  description = "More flags for meshlink join and leave."
  type        = list(string)
  default     = []
}
