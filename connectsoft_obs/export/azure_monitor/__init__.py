"""Export to Azure Monitor Application Insights (extra `azure`)."""
